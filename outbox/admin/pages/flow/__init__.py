"""The page of the flow: a conversation, the messages of a key, and what flows where."""
