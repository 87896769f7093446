"""Many fusions at once, in bounded memory: folders and volumes, as functions."""
