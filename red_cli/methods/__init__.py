"""What is trained on a base: RED, and the methods it is compared with; each attaches, saves and loads in one way."""
