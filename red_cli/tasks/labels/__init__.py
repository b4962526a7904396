"""Tasks whose answer is a label or a number, and the metrics of labels."""
