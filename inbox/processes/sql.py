"""The statements of processes: find instances, and write the steps that they take."""

from inbox.ledger.sql.parts import clock, names, rows, table

FOUND_COLUMNS = {"process": "text", "key": "text"}
ALIAS_COLUMNS = {"process": "text", "name": "text", "value": "text"}
INSTANCE_COLUMNS = ("process", "key", "number", "state", "version", "stuck")
STEP_COLUMNS = (
    *("instance_id", "number", "source_state", "state", "version", "data", "kept", "said"),
    *("method", "cause", "message_id", "source", "by", "reason"),
)
NOTED_COLUMNS = {
    "id": "bigint",
    "number": "integer",
    "state": "text",
    "version": "integer",
    "stuck": "text",
    "ended": "boolean",
}
WOKEN_COLUMNS = {"handler": "text", "key": "text"}


def aliased(count: int, vendor: str) -> str:
    """Return the keys of the instances that have other keys."""
    return (
        f"WITH {table('wanted', ALIAS_COLUMNS, count, vendor)} "
        'SELECT alias.process, alias.name, alias.value, instance."key" FROM wanted '
        "JOIN django_inbox_processalias AS alias ON alias.process = wanted.process "
        "AND alias.name = wanted.name AND alias.value = wanted.value "
        "JOIN django_inbox_processinstance AS instance ON instance.id = alias.instance_id"
    )


def newest(count: int, vendor: str) -> str:
    """Return the newest steps of instances, each by two lookups, however long its chain is."""
    return (
        f"WITH {table('wanted', FOUND_COLUMNS, count, vendor)} "
        'SELECT instance.process, instance."key", instance.id, step.number, step.state, '
        "step.version, step.data, step.kept, instance.stuck, instance.ended IS NOT NULL "
        "FROM wanted JOIN django_inbox_processinstance AS instance "
        'ON instance.process = wanted.process AND instance."key" = wanted."key" '
        "JOIN django_inbox_processstep AS step "
        "ON step.instance_id = instance.id AND step.number = instance.number"
    )


def begin(count: int, vendor: str) -> str:
    """Insert instances where they stand after their first steps; skip what is there."""
    now = clock(vendor)
    row = (
        f"({', '.join(['%s'] * len(INSTANCE_COLUMNS))}, {now}, {now}, CASE WHEN %s THEN {now} END)"
    )
    return (
        f"INSERT INTO django_inbox_processinstance ({names(INSTANCE_COLUMNS)}, begun, changed, "
        f"ended) VALUES {', '.join([row] * count)} "
        'ON CONFLICT (process, "key") DO NOTHING RETURNING process, "key", id'
    )


def add(count: int, vendor: str) -> str:
    """Add steps; one number of an instance can be taken once."""
    row = f"({', '.join(['%s'] * len(STEP_COLUMNS))}, {clock(vendor)})"
    return (
        f"INSERT INTO django_inbox_processstep ({names(STEP_COLUMNS)}, at) "
        f"VALUES {', '.join([row] * count)}"
    )


def note(count: int, vendor: str) -> str:
    """Note where instances stand after their newest steps."""
    now = clock(vendor)
    return (
        f"WITH {table('noted', NOTED_COLUMNS, count, vendor)} "
        "UPDATE django_inbox_processinstance AS instance SET number = noted.number, "
        "state = noted.state, version = noted.version, stuck = noted.stuck, "
        f"changed = {now}, ended = CASE WHEN noted.ended THEN COALESCE(instance.ended, {now}) END "
        "FROM noted WHERE instance.id = noted.id"
    )


def alias(count: int) -> str:
    """Add other keys of instances; return those that were not there."""
    return (
        "INSERT INTO django_inbox_processalias (process, name, value, instance_id) "
        f"VALUES {rows(4, count)} ON CONFLICT (process, name, value) DO NOTHING "
        "RETURNING process, name, value"
    )


def wake(count: int, vendor: str) -> str:
    """Let what waits for a step of an instance be due."""
    return (
        f"WITH {table('woken', WOKEN_COLUMNS, count, vendor)} "
        f"UPDATE django_inbox_receipt AS receipt SET next_attempt_at = {clock(vendor)} "
        'FROM woken WHERE receipt.handler = woken.handler AND receipt."key" = woken."key" '
        "AND receipt.state = 'waiting' AND receipt.place = 0"
    )
