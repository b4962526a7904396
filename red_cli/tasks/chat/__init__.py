"""Conversations: parsing, chat templates, and the loss mask of assistant turns."""
