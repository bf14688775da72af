"""The simulated shop and the replay of real history: clients of the running service."""
