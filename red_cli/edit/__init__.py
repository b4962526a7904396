"""The method itself: two learned vectors after a module's output; knows torch and transformers, nothing of recipes."""
