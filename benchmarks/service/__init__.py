"""A small service that emits and handles."""
