"""Cold history: raw events as Parquet, out of the ledger's way and still part of every sum."""
