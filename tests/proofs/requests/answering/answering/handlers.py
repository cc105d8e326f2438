"""Answer: with the square; with nothing at all from 1,000 on; never, from 2,000 on."""

import inbox
from answering.events import Question, Result


@inbox.handler(Question)
def square(question: Question, message: object) -> Result | None:
    if question.number >= 2_000:
        raise ValueError("too large")
    return Result(question.number**2) if question.number < 1_000 else None
