"""What is derived from receipts and dead letters, read only."""
