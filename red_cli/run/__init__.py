"""From a recipe to a run folder, and from a run folder to figures."""
