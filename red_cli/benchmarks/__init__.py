"""Benchmarks by their own rules: lm-evaluation-harness, AlpacaEval and MT-Bench on a model in memory."""
