"""Posteriors to shares: the policies, the race that serves them, and what the guardrails allow."""
