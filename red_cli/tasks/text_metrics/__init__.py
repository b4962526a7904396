"""Metrics of generated text: E2E NLG's five as its official scripts define them, and chrF and ROUGE."""
