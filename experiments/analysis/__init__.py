"""The read-out: metrics, comparisons, guardrails, checks and the verdict, from the cells alone."""
