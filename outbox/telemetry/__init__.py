"""What the rows say in numbers, for Prometheus."""
