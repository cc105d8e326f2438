"""Idempotent consumers: a handler's database effects happen once per message.

Safe to import before Django's apps are loaded.
"""

from inbox.handlers.registry import Handler, handler
from inbox.replies.answering import LATER, answer
from inbox.replies.progressing import progress
from inbox.replies.settled import on_settled
from inbox.verdicts import Reject, Retry, RetryPolicy

__all__ = [
    "LATER",
    "Handler",
    "Reject",
    "Retry",
    "RetryPolicy",
    "answer",
    "handler",
    "on_settled",
    "progress",
]
