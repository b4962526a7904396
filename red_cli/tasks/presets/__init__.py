"""Published data sets with their own protocol: GLUE, E2E NLG and commonsense reasoning."""
