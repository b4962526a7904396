"""The settings of tasks: a file for each preset, found by the registry."""
