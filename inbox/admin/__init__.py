"""The admin of the inbox: receipts and dead letters, also on the outbox's pages of messages.

Open requests, to be answered by hand, and bindings, to look at; and what the inbox shows on the
pages under "Messaging".
"""

from inbox.admin import bindings, dead_letters, messages, open_requests, pages, receipts

__all__ = ["bindings", "dead_letters", "messages", "open_requests", "pages", "receipts"]
