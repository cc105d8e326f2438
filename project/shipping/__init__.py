"""Shipping sends out what is invoiced."""
