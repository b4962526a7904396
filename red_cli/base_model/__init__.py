"""The base: its configuration, tokenizer, weights and files, and the digest that identifies it."""
