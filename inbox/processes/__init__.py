"""Process managers: a controller that knows how far the business has come.

Safe to import before Django's apps are loaded.
"""

from inbox.processes.declaring import Process, upgrade
from inbox.processes.intents import Do
from inbox.processes.keys import MESSAGE_KEY
from inbox.processes.marks import on, on_all, on_reply, on_timer
from inbox.processes.policies import Reject, Skip, Wait

__all__ = [
    "MESSAGE_KEY",
    "Do",
    "Process",
    "Reject",
    "Skip",
    "Wait",
    "on",
    "on_all",
    "on_reply",
    "on_timer",
    "upgrade",
]
