"""The read-out: posteriors, lifts, guardrails, checks and verdict from the cells of an experiment."""
