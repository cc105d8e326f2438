"""Take the callbacks of a world, and judge them: the end of each request is told, as it is.

The signature is that of Standard Webhooks, checked by its library. A callback may come twice, with
one id; what comes says how the request has ended in the asker's table, with the reply that counts.
"""

import json
from collections import defaultdict
from typing import NamedTuple

from standardwebhooks.webhooks import Webhook

from tests.kit.services.callbacks import SECRET, CallbackServer

SHOWN = 5

WANTED = """
SELECT r.message_id::text, s.outcome, r.owner FROM django_outbox_request AS r
JOIN django_outbox_settlement AS s ON s.request_id = r.id WHERE r.callback_url <> ''
"""


class Wanted(NamedTuple):
    """A request whose end is to be told; its owner is the tag of the change that it is about."""

    request: str
    outcome: str
    owner: str


class Told(NamedTuple):
    """What one callback has said."""

    id: str
    outcome: str
    tags: tuple[str, ...]


class Callbacks:
    """Everything that a receiver has got, by request. A callback that is not signed raises."""

    def __init__(self, server: CallbackServer) -> None:
        self.told: dict[str, list[Told]] = defaultdict(list)
        self._server = server
        self._read = 0

    def collect(self) -> None:
        """Read what has come since; soon enough, for a signature is good for five minutes."""
        for each in self._server.called[self._read :]:
            event = Webhook(SECRET).verify(each.body, dict(each.headers))
            event = event if isinstance(event, dict) else json.loads(each.body)
            about = event["data"]
            tags = tuple(reply["data"]["tag"] for reply in about["replies"])
            told = Told(event["id"], about["state"], tags)
            self.told[event["subject"]].append(told)
            self._read += 1

    @property
    def repeated(self) -> int:
        """How many came again."""
        return self._read - len(self.told)


def missing(wanted: list[Wanted], told: dict[str, list[Told]]) -> int:
    """Return how many ends are still to be told."""
    return sum(each.request not in told for each in wanted)


def flaws(wanted: list[Wanted], told: dict[str, list[Told]]) -> str:
    """Return what is wrong with the callbacks, when all should be there; "" if nothing."""
    wrong = [each.request for each in wanted if not _is_sound(each, told.get(each.request, []))]
    if wrong:
        return f"not called back, or wrongly: {len(wrong)} ({', '.join(wrong[:SHOWN])})"
    if strange := told.keys() - {each.request for each in wanted}:
        return f"called back, and nobody has asked: {len(strange)} ({sorted(strange)[0]})"
    return ""


def _is_sound(wanted: Wanted, told: list[Told]) -> bool:
    right = {(wanted.outcome, (wanted.owner,))}
    return {each[1:] for each in told} == right and len({each.id for each in told}) == 1
