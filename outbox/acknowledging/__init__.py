"""Acknowledgements: which groups have settled what was sent here, and what has to be sent again."""
