"""Several processes: launcher, workers, collectives and engines."""
