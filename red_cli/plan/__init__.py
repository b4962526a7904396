"""The plan of a run: steps, batches, memory, devices and strategy."""
