"""Replay of real history through the running service, over HTTP only."""
