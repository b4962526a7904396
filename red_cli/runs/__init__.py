"""Folders on disk: runs, adapters and exported models; and the checks before any work."""
