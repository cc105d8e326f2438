"""Call a handler: in a transaction, a savepoint, a session and a context that it leaves clean."""
