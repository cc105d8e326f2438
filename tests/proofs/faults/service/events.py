"""What happens in the service. A tag identifies a change, or what one caused."""

from dataclasses import dataclass
from datetime import timedelta

from django.conf import settings

import outbox
from tests.proofs.faults.service.vocabulary import ANSWERED, ASKED, CHANGED, HOPPED, RARE

ACKNOWLEDGE = outbox.Acknowledge(
    groups=[settings.FAULTS_GROUP], within=timedelta(seconds=5), resends=100
)
"""Nothing is given up while a fault lasts: it takes as many resends as that takes."""


@outbox.event(CHANGED, key="key", acknowledge=ACKNOWLEDGE)
@dataclass(frozen=True, slots=True)
class Changed:
    key: str
    version: int
    tag: str


@outbox.event(RARE, key="key", acknowledge=ACKNOWLEDGE)
@dataclass(frozen=True, slots=True)
class Rare:
    key: str
    version: int
    tag: str


@outbox.event(HOPPED, key="tag")
@dataclass(frozen=True, slots=True)
class Hopped:
    """Caused by a change, whose tag it carries."""

    tag: str


@outbox.event(ANSWERED)
@dataclass(frozen=True, slots=True)
class Answered:
    tag: str


@outbox.request(ASKED, key="tag", reply=Answered, within=timedelta(hours=1))
@dataclass(frozen=True, slots=True)
class Asked:
    """Asked about a change, whose tag it carries."""

    tag: str


EVENTS = {CHANGED: Changed, RARE: Rare}
