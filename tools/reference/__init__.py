"""The pages of docs/reference, made from the code: one module for each page."""
