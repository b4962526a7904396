"""Comparisons of several runs: one recipe under several seeds, or by several methods."""
