"""What the admin pages of outbox, relay and inbox have in common; imports no models."""
