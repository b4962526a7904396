"""Benchmarks by their owners' rules: lm-evaluation-harness, AlpacaEval and MT-Bench on a model in memory."""
