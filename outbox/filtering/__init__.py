"""One grammar to look for rows, the same for the admin, programs and commands."""
