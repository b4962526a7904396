"""What leaves: merged weights, their verification, and model cards."""
