"""Metrics of generated text: the five of E2E NLG by its official definitions, chrF, and ROUGE."""
