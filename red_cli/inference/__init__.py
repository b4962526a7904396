"""Predictions, generated text, scores and chat of a trained model."""
