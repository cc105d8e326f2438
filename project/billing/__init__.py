"""Billing invoices what the shop sells, and keeps the account of each order."""
