"""A trained model at work: predictions, generated text, scores and chat."""
