"""Processes that a measurement starts; each prints one line of JSON at its end."""
