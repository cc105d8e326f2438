"""What databases do differently, and what all that we run on them needs."""
