"""Encoded splits in a cache on the user's disk."""
