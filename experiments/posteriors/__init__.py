"""Posteriors of one number, and how they compare: see `beta`, `normal`, `compare`."""
