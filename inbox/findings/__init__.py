"""What the doctor asks about the consumer, by what it looks at."""
