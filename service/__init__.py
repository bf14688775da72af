"""The service: a Litestar API over the ledger, its jobs and its commands."""
