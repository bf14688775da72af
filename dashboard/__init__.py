"""The dashboard: what the growth team sees, read from the service over HTTP only."""
