"""Idempotent consumers: a handler's database effects happen once per message.

Safe to import before Django's apps are loaded.
"""

from inbox.registry import Handler, handler
from inbox.verdicts import Reject, Retry, RetryPolicy

__all__ = ["Handler", "Reject", "Retry", "RetryPolicy", "handler"]
