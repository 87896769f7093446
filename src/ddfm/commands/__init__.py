"""The commands behind `ddfm.cli`: parse, call, print. One module for what belongs together."""
