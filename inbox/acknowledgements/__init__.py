"""Acknowledgements at the inbox: tell senders what a group has settled of what they have sent."""
