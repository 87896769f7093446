"""Serve fusion over HTTP: jobs that survive a crash, worker processes, and a page to use them by."""
