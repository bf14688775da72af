"""Off-policy evaluation: what another policy would have earned on a log of decisions."""
