"""The ledger: tables, the one writer, reads and folds."""
