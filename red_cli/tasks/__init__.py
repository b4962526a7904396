"""Tasks: their data, their encoding and loss, and how predictions are scored."""
