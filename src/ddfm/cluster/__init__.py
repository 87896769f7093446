"""Folder runs on many machines, and their numbers for a monitor."""
