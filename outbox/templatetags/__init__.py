"""What our templates ask for."""
