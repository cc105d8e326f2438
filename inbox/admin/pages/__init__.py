"""What the inbox shows on the pages under "Messaging"."""

from inbox.admin.pages import overview, traffic
from inbox.models import Binding, DeadLetter, KeySequence, OpenRequest, Original, Receipt
from outbox.extensions.storage import register_tables

overview.register()
traffic.register()
register_tables(Receipt, DeadLetter, KeySequence, Original, Binding, OpenRequest)
