"""Which rights in PostgreSQL consumers, and people who look after them, need on our tables."""

RECEIPT, LETTER = "django_inbox_receipt", "django_inbox_deadletter"
ORIGINAL, SEQUENCE = "django_inbox_original", "django_inbox_keysequence"
BINDING, OPEN = "django_inbox_binding", "django_inbox_openrequest"
# Of the outbox: what is asked here is settled by a consumer, who locks it before; and tells it to
# handlers that go on from there, with what was asked. What is acknowledged is noted by one.
MESSAGE = "django_outbox_message"
REQUEST, REPLY = "django_outbox_request", "django_outbox_reply"
SETTLEMENT, SCHEDULED = "django_outbox_settlement", "django_outbox_scheduled"
ACKNOWLEDGEMENT = "django_outbox_acknowledgement"

# If RECONCILE is set: it states what was emitted, and takes the answers.
RECONCILIATION, TOPIC = "django_outbox_reconciliation", "django_outbox_grouptopic"
TOTAL, TO_STATE = "django_outbox_buckettotal", "django_outbox_tostate"
BREAK = "django_outbox_break"
# What is missing there may not have been published yet, which relays know.
CHECKPOINT, PARKED = "django_relay_checkpoint", "django_relay_parked"

CONSUMER = {
    RECEIPT: ("SELECT", "INSERT", "UPDATE", "DELETE"),
    LETTER: ("SELECT", "INSERT", "UPDATE", "DELETE"),
    ORIGINAL: ("SELECT", "DELETE"),
    SEQUENCE: ("SELECT", "INSERT", "UPDATE"),
    BINDING: ("SELECT", "INSERT", "UPDATE"),
    OPEN: ("SELECT", "INSERT", "DELETE"),
    MESSAGE: ("SELECT", "INSERT"),
    REQUEST: ("SELECT", "UPDATE"),
    REPLY: ("SELECT", "INSERT"),
    SETTLEMENT: ("SELECT", "INSERT"),
    SCHEDULED: ("SELECT", "DELETE"),
    ACKNOWLEDGEMENT: ("SELECT", "UPDATE"),
    RECONCILIATION: ("SELECT", "INSERT", "UPDATE"),
    TOPIC: ("SELECT", "INSERT", "UPDATE"),
    TOTAL: ("SELECT", "INSERT"),
    TO_STATE: ("SELECT", "INSERT", "UPDATE", "DELETE"),
    BREAK: ("SELECT", "INSERT", "UPDATE", "DELETE"),
    CHECKPOINT: ("SELECT",),
    PARKED: ("SELECT",),
}
# All but what housekeeping needs: any message may be one that cannot be read, and any batch one
# whose time is over, or whose transaction a handler ends: it takes receipts back.
AT_START = {
    RECEIPT: ("SELECT", "INSERT", "UPDATE", "DELETE"),
    LETTER: ("SELECT", "INSERT", "UPDATE"),
    SEQUENCE: ("SELECT", "INSERT", "UPDATE"),
    BINDING: ("SELECT", "INSERT", "UPDATE"),
}
# What is old is locked before it is deleted, for which PostgreSQL wants the right to update.
PRUNE = {
    RECEIPT: ("SELECT", "UPDATE", "DELETE"),
    LETTER: ("SELECT", "UPDATE", "DELETE"),
    ORIGINAL: ("SELECT", "DELETE"),
    OPEN: ("SELECT", "DELETE"),
}
PERSON = {
    RECEIPT: ("SELECT", "INSERT", "UPDATE"),
    LETTER: ("SELECT", "INSERT", "UPDATE"),
    ORIGINAL: ("SELECT", "INSERT"),
    SEQUENCE: ("SELECT", "INSERT", "UPDATE"),
    BINDING: ("SELECT", "UPDATE", "DELETE"),
    OPEN: ("SELECT", "DELETE"),
}
