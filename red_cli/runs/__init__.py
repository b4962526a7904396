"""What a folder on disk is and holds: a run, an adapter or an exported model; and what a run reports as it works."""
