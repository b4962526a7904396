"""Rows: read from files or the Hub, split, streamed, and turned into texts."""
