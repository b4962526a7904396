"""Tasks whose answer is text: tokens, loss, packing, and options scored by likelihood."""
