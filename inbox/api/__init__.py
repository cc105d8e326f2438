"""What the inbox adds to the HTTP API; needs the extra `drf`, and nothing else imports it."""
