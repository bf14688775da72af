"""Worlds: shops whose customers are simulated and whose truth is known exactly."""
