"""Go on when a request has ended: note it, in an event that only this service hears."""

import inbox
import outbox
from asking.events import Square


@inbox.on_settled(Square)
def note(request: Square, settled: outbox.Settled) -> None:
    outbox.emit("asking.noted", {"id": settled.id, "number": request.number, "is": settled.state})


@inbox.handler("asking.noted")
def hear(event: object, message: outbox.Envelope) -> None:
    """Let the event have a queue to go to."""
