"""Brokers: one small port (base.py) and its adapters beside it."""
