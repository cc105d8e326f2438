"""Answer with the square; from 1,000 on with nothing at all, from 2,000 on never.

From 3,000 on somebody answers later, and from 4,000 on it is tried again for days.
"""

from datetime import timedelta

import inbox
import outbox
from answering.events import Question, Result


@inbox.handler(Question)
def square(question: Question, message: outbox.Envelope) -> object:
    if question.number >= 4_000:
        raise inbox.Retry(after=timedelta(days=1))
    if question.number >= 3_000:
        inbox.progress(message, text="waits")
        return inbox.LATER
    if question.number >= 2_000:
        raise ValueError("too large")
    return Result(question.number**2) if question.number < 1_000 else None
