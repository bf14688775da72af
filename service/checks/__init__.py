"""What `rialto doctor` looks at, one place a file."""
