"""What the named scenarios claim, checked on runs."""
