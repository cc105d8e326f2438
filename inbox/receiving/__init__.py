"""Receive a batch: deduplicate, call handlers, settle; try again what failed."""
