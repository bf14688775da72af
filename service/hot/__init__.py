"""The hot path: requests of one moment decided together, committed together, then answered."""
