"""What the user writes: typed keys, YAML files, variants and overrides; plain data, nothing heavy."""
