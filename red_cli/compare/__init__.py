"""Several runs at once: a recipe under several seeds, and by several methods, side by side."""
