"""Training: the loop, its setup and step, checkpoints, resuming, and the search for a learning rate."""
