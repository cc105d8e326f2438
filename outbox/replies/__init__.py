"""Requests: what is asked, what is answered, and how each of them ends, once."""
