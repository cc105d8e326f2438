"""Both ends of a request at the inbox: handlers that answer, and the handler that takes replies."""
