"""Programs for those who release ddfm; no part of the package."""
