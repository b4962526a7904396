"""Guesses a recipe from a data file: its task, columns, splits and settings."""
