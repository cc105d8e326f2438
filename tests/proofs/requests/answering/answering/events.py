import msgspec

import outbox


@outbox.event("maths.squared")
class Result(msgspec.Struct):
    square: int


@outbox.request("maths.square", reply=Result)
class Question(msgspec.Struct):
    number: int
