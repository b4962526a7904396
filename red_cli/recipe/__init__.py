"""Recipes: the schema, YAML files, variants and overrides. Plain data; imports nothing heavy."""
