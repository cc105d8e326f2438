"""A service that asks and one that answers, and what they say to each other."""

import uuid
from dataclasses import dataclass
from typing import Any

from django.db import transaction

import outbox
from outbox.message.envelope import Envelope
from relay.log import open_log
from relay.transfer import transfer
from tests.inbox.support import receive
from tests.kit.support import RecordingBroker

ASKER, ANSWERER = "asker", "pricing"


@dataclass(frozen=True, slots=True)
class Given:
    amount: int


@dataclass(frozen=True, slots=True)
class Declined:
    why: str


@dataclass(frozen=True, slots=True)
class Quote:
    basket_id: int


class Wire:
    """One service that asks and one that answers, in one database, by a broker in memory."""

    def __init__(self) -> None:
        self.broker = RecordingBroker()
        self._taken = 0

    def publish(self) -> list[Envelope]:
        """Publish what is pending; return what that was."""
        log = open_log("mine", using="default", start="beginning")
        while log.lanes_with_work(1):
            transfer(log, self.broker, 0, 100)
        new = self.broker.published[self._taken :]
        self._taken += len(new)
        return new

    def run(self) -> None:
        """Let everything pass until nothing is left."""
        while page := self.publish():
            for each in page:
                receive(each, group=ANSWERER)
                receive(each, group=ASKER)


def ask(**options: Any) -> outbox.Asked:
    with transaction.atomic():
        return outbox.ask(Quote(7), **options)


def reply_to(request: Envelope, data: bytes, **attributes: Any) -> Envelope:
    return Envelope(
        **{
            "id": str(uuid.uuid4()),
            "source": "/pricing",
            "type": "pricing.quote.given",
            "topic": str(request.attributes["replyto"]),
            "data": data,
            "attributes": {"inreplyto": request.id},
            **attributes,
        }
    )
