"""Judge the acknowledgements of a world: what was done is known, once, and is left in peace then.

Each change that asks for it has one row, which says that the group has handled it, as the group's
receipt does. A trigger writes down what must never happen to such a row: that it is touched, and so
sent again, when its acknowledgement was taken; or that it ends in another way.
"""

from typing import NamedTuple

from tests.proofs.faults.service.vocabulary import CHANGED, HANDLERS, RARE

SHOWN = 5

WATCH = """
CREATE TABLE faults_wrong (id bigserial PRIMARY KEY, message_id uuid, was text, became text);
CREATE FUNCTION faults_watch() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO faults_wrong (message_id, was, became)
    VALUES (NEW.message_id, OLD.state || ' ' || OLD.resends, NEW.state || ' ' || NEW.resends);
    RETURN NEW;
END $$;
CREATE TRIGGER faults_watch BEFORE UPDATE ON django_outbox_acknowledgement FOR EACH ROW
WHEN (OLD.state = 'handled' OR NEW.state NOT IN ('awaited', 'handled'))
EXECUTE FUNCTION faults_watch();
"""

WRONG = "SELECT message_id::text, was, became FROM faults_wrong ORDER BY id"

_GIVEN_UP = """
SELECT FROM django_relay_parked AS p
WHERE p.message_id = a.message_id AND p.state = 'discarded' AND p.settled_by LIKE '%(relay_requeue)'
"""
OPEN = f"""
SELECT count(*) FROM django_outbox_acknowledgement AS a
WHERE a.state <> 'handled' AND NOT EXISTS ({_GIVEN_UP})
"""
_EVENTS = f"'{CHANGED}', '{RARE}'"
_HANDLERS = f"'{HANDLERS[CHANGED]}', '{HANDLERS[RARE]}'"
STANDING = f"""
SELECT (SELECT count(*) FROM faults_change WHERE kind IN ({_EVENTS})),
       (SELECT count(*) FROM django_outbox_acknowledgement WHERE type IN ({_EVENTS})),
       ({OPEN}),
       (SELECT count(*) FROM django_outbox_acknowledgement AS a
        WHERE a.state = 'handled' AND NOT EXISTS (
            SELECT FROM django_inbox_receipt AS r
            WHERE r.message_id = a.message_id::text AND r.handler IN ({_HANDLERS})
              AND r.state = 'processed')),
       (SELECT count(*) FROM django_outbox_acknowledgement AS a
        WHERE (a.state = 'handled') <> (a.due_at IS NULL AND a.told_at IS NOT NULL))
"""
RESENDS = "SELECT coalesce(sum(resends), 0) FROM django_outbox_acknowledgement"


class Standing(NamedTuple):
    """Changes that ask, their rows, those still open, without a receipt, and without its times."""

    changes: int
    rows: int
    open: int
    unfounded: int
    untimely: int


def flaws(standing: Standing, wrong: list[tuple[str, str, str]]) -> str:
    """Return what is wrong with the acknowledgements when all should be done; "" if nothing."""
    if wrong:
        shown = ", ".join(f"{name}: {was} -> {became}" for name, was, became in wrong[:SHOWN])
        return f"acknowledgements: {len(wrong)} changes that must not be ({shown})"
    if standing.rows != standing.changes:
        return f"acknowledgements: {standing.rows} are awaited, of {standing.changes} changes"
    if any(standing[2:]):
        return f"acknowledgements (open, without receipt, untimely): {tuple(standing[2:])}"
    return ""
