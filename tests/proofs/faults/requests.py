"""Judge the requests of a world: each has one settlement, and it is the same on both sides.

Each change of which a question is asked has one request, whose one reply counts and is about this
change; whoever answered has done so once, and nobody has asked anything else.
"""

from collections.abc import Sequence
from typing import NamedTuple

from tests.proofs.faults.service.vocabulary import ANSWERS, ASK_EVERY, CHANGED, TURN

SHOWN = 5

STANDING = f"""
SELECT c.tag,
       (SELECT count(*) FROM django_outbox_request AS r WHERE r.owner = c.tag),
       (SELECT count(*) FROM django_outbox_request AS r
        JOIN django_outbox_settlement AS s ON s.request_id = r.id
        WHERE r.owner = c.tag AND s.outcome = 'answered'),
       (SELECT count(*) FROM django_outbox_request AS r
        JOIN django_outbox_reply AS p ON p.request_id = r.id
        WHERE r.owner = c.tag AND p.number = 1
          AND convert_from(p.data, 'UTF8')::jsonb->>'tag' = c.tag),
       (SELECT count(*) FROM faults_effect AS e
        WHERE e.handler = '{ANSWERS}' AND e.tag = c.tag)
FROM faults_change AS c WHERE c.kind = '{CHANGED}' AND {TURN} % {ASK_EVERY} = 0
"""

REQUESTS = "SELECT count(*) FROM django_outbox_request"

SETTLED = "SELECT count(*) FROM django_outbox_settlement"


class Standing(NamedTuple):
    """What there is of the question about one change."""

    tag: str
    requests: int
    answered: int
    replies: int
    answers: int

    @property
    def is_sound(self) -> bool:
        return self[1:] == (1, 1, 1, 1)


def flaws(rows: Sequence[Standing], requests: int, given_up: frozenset[str] = frozenset()) -> str:
    """Return what is wrong with the requests of changes, of all that there are; "" if nothing.

    `given_up` are the changes whose events a person has discarded: nothing was asked about them.
    """
    wanted = [row for row in rows if row.tag not in given_up]
    wrong = [f"{row.tag} {row[1:]}" for row in wanted if not row.is_sound]
    if wrong:
        shown = ", ".join(wrong[:SHOWN])
        return f"(requests, answered, replies, answers) not all 1: {len(wrong)} ({shown})"
    if requests != len(wanted):
        return f"{requests} requests of {len(wanted)} changes"
    return ""
