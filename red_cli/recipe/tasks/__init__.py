"""The settings of tasks, one module for each; the registry finds them."""
