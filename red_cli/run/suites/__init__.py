"""Benchmarks as their owners define them, answered by a run's model with its edits on it."""
