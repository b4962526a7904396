"""Training: the loop, its setup and step, checkpoints, resuming, and the learning-rate search."""
