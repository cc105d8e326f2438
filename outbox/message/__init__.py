"""What a message is: its envelope, its type, its form on the wire. Pure, without a database."""
