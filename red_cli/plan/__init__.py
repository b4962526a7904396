"""What a recipe will do, before it does it: steps, batches, memory, devices and strategy."""
