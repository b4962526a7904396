"""What is trained for and how it is scored."""
