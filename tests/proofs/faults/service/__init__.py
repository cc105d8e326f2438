"""A small service whose every change can be accounted for."""
