from dataclasses import dataclass
from datetime import timedelta

import outbox


@outbox.event("maths.squared")
@dataclass(frozen=True, slots=True)
class Squared:
    square: int


@outbox.request("maths.square", reply=Squared, within=timedelta(minutes=10))
@dataclass(frozen=True, slots=True)
class Square:
    number: int


outbox.register("asking.noted")
