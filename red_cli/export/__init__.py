"""Export: merged weights, written as a stream, their verification, model cards, and converted checkpoints."""
