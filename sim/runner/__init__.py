"""The runner: a world under the production allocator, replication by replication."""
