"""Which rights in PostgreSQL relays, and people who look after them, need on our tables."""

CHECKPOINT, PARKED = "django_relay_checkpoint", "django_relay_parked"

RELAY = {
    CHECKPOINT: ("SELECT", "INSERT", "DELETE"),
    PARKED: ("SELECT", "INSERT", "UPDATE", "DELETE"),
}
AT_START = {CHECKPOINT: ("SELECT", "INSERT"), PARKED: ("SELECT", "INSERT", "UPDATE")}
PRUNE = {CHECKPOINT: ("SELECT", "DELETE"), PARKED: ("SELECT", "DELETE")}
PERSON = {CHECKPOINT: ("SELECT",), PARKED: ("SELECT", "UPDATE")}
