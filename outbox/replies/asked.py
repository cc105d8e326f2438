"""What the asker has of a request: how it stands, its result, and how to take it back."""

import asyncio
import math
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from uuid import UUID

from asgiref.sync import sync_to_async
from django.db import connections

from outbox.database.event_loop import no_coroutine
from outbox.exceptions import (
    NoResult,
    RequestCancelled,
    RequestExpired,
    RequestFailed,
    StillPending,
    UnknownRequest,
    WaitingInTransaction,
)
from outbox.message import codec
from outbox.message.context import is_handling
from outbox.message.envelope import Envelope
from outbox.message.event_types import registry
from outbox.producer.writing import in_transaction
from outbox.replies.progress import Progress
from outbox.replies.waking import Wakeup
from outbox.states import PENDING, Outcome

if TYPE_CHECKING:
    from outbox.models import Reply, Request

FIRST_PAUSE, LAST_PAUSE = 0.02, 1.0
"""Seconds between two looks of who waits; each is half as long again as the one before."""

_NONE = {
    Outcome.FAILED: RequestFailed,
    Outcome.EXPIRED: RequestExpired,
    Outcome.CANCELLED: RequestCancelled,
}


@dataclass(frozen=True, slots=True)
class Asked:
    """A request by its id, in the database `using`. Cheap to make: Asked(id=..., using="default").

    Reads rows: any process can, at any time, also after the one that asked has ended.
    """

    id: str
    using: str = "default"

    def __post_init__(self) -> None:
        if isinstance(self.id, UUID):  # whatever it is called, it is one id
            object.__setattr__(self, "id", str(self.id))

    def state(self) -> str:
        """Return "pending", "answered", "failed", "expired" or "cancelled".

        Raises UnknownRequest if there is no such request.
        """
        with no_coroutine("state()", "astate()"):
            return _state_of(self._request())

    async def astate(self) -> str:
        """Run state() in the thread that holds this task's database connections."""
        return await sync_to_async(self.state)()

    def progress(self) -> Progress | None:
        """Return how far whoever answers says it has come, the newest of it; None if it has not.

        What it has said before the end stays. Raises UnknownRequest.
        """
        from outbox.models import Request  # noqa: PLC0415 - not loaded at import

        rows = Request.objects.using(self.using).filter(message_id=self._uuid())
        found = rows.values_list("progress", "progress_text", "progress_at").first()
        if found is None:
            raise self._unknown()
        done, text, at = found
        return None if at is None else Progress(done=done, text=text, at=at)

    def result(self, timeout: float = 0.0) -> Any:
        """Return the reply, waiting for it up to `timeout` seconds; a list if several were wanted.

        Raises StillPending if there is none yet, which is no failure: ask again. Raises
        RequestFailed, RequestExpired or RequestCancelled if there will be none, UnknownRequest if
        there is no such request, and WaitingInTransaction if it is told to wait in a transaction
        or a handler: what was asked in it is sent behind it. Raises UndecodableMessage if a reply
        does not fit the class of its type any more.
        """
        with no_coroutine("result()", "aresult()"):
            request = self._look(timeout)
            if not _ended(request):
                raise self._pending(timeout)
            return self._result(request)

    def wait(self, timeout: float) -> str:
        """Wait up to `timeout` seconds until the request has ended; return its state(), if it has.

        Raises what result() raises for a wait that cannot end, and for what is no request.
        """
        with no_coroutine("wait()", "aresult()"):
            return _state_of(self._look(timeout))

    async def aresult(self, timeout: float = 0.0) -> Any:
        """Do what result() does, in a coroutine: it looks from time to time, and blocks nobody."""
        ends = await sync_to_async(self._until)(timeout)
        pause = FIRST_PAUSE
        while not _ended(request := await sync_to_async(self._request)()):
            left = ends - time.monotonic()
            if left <= 0:
                break
            await asyncio.sleep(min(pause, left))
            pause = min(pause * 1.5, LAST_PAUSE)
        if not _ended(request):
            raise self._pending(timeout)
        return await sync_to_async(self._result)(request)

    def cancel(self, *, by: str = "") -> bool:
        """Settle the request as cancelled; tell whether this has done it.

        False if it has ended already, however. In the running transaction, if there is one. An
        answer that comes later is kept, and changes nothing. Raises UnknownRequest.
        """
        from outbox.replies.settling import cancel  # noqa: PLC0415 - models are not loaded at import

        with no_coroutine("cancel()", "acancel()"):
            return cancel(str(self._uuid()), using=self.using, by=by)

    async def acancel(self, *, by: str = "") -> bool:
        """Run cancel() in the thread that holds this task's database connections."""
        return await sync_to_async(self.cancel)(by=by)

    def _look(self, timeout: float) -> "Request":
        """Return the request when it has ended, or the time is over."""
        ends = self._until(timeout)
        request = self._request()
        return self._wait(ends) if timeout > 0 and not _ended(request) else request

    def _until(self, timeout: float) -> float:
        """Return the monotonic time at which waiting ends; raise if nobody may wait here."""
        if math.isnan(timeout):
            raise ValueError("timeout is a number of seconds, not NaN")
        if timeout > 0 and (is_handling() or in_transaction(connections[self.using])):
            raise WaitingInTransaction(
                "A transaction is open. What was asked in it is sent when it commits, so waiting "
                "for the answer in it never ends. Wait behind the atomic() block, and not in a "
                "handler: handle the reply there with a handler of its own, for the class of the "
                "reply."
            )
        return time.monotonic() + timeout

    def _wait(self, ends: float) -> "Request":
        pause = FIRST_PAUSE
        with Wakeup(self.using, self._uuid()) as wakeup:
            # Once more, as it may have ended before anybody listened.
            while not _ended(request := self._request()):
                left = ends - time.monotonic()
                if left <= 0:
                    break
                wakeup.wait(min(pause, left))
                pause = min(pause * 1.5, LAST_PAUSE)
        return request

    def _uuid(self) -> UUID:
        try:
            return UUID(self.id)
        except (ValueError, AttributeError, TypeError) as exc:
            raise UnknownRequest(f"{self.id!r:.300} is no id of a request.") from exc

    def _request(self) -> "Request":
        """Return the request with its settlement, in one query."""
        from outbox.models import Request  # noqa: PLC0415 - models are not loaded at import

        rows = Request.objects.using(self.using).select_related("settlement")
        if (found := rows.filter(message_id=self._uuid()).first()) is None:
            raise self._unknown()
        return found

    def _unknown(self) -> UnknownRequest:
        return UnknownRequest(f"There is no request {self.id} in {self.using!r}.")

    def _result(self, request: "Request") -> Any:
        from outbox.models import Reply  # noqa: PLC0415 - models are not loaded at import

        settlement = request.settlement
        counted = Reply.objects.using(self.using).filter(request=request, number__isnull=False)
        replies = [event_of(each) for each in counted.order_by("number")]
        kind: type[NoResult] | None = _NONE.get(Outcome(settlement.outcome))
        if kind is not None:
            reason = f": {settlement.reason}" if settlement.reason else ""
            raise kind(
                f"Request {self.id} is {settlement.outcome}{reason}.",
                request_id=self.id,
                replies=replies,
            )
        if len(replies) < request.wanted:
            raise UnknownRequest(f"Request {self.id} was forgotten a moment ago.")
        return replies[0] if request.wanted == 1 else replies

    def _pending(self, timeout: float) -> StillPending:
        waited = f" after {timeout:g} s" if timeout > 0 else ""
        return StillPending(
            f"Request {self.id} is pending{waited}. Its result can be asked for again.",
            request_id=self.id,
        )


def _ended(request: "Request") -> bool:
    return hasattr(request, "settlement")


def _state_of(request: "Request") -> str:
    return Outcome(request.settlement.outcome).value if _ended(request) else PENDING


def event_of(reply: "Reply") -> Any:
    """Return the event of a reply, of its class if that is known here."""
    envelope = Envelope(
        id=reply.message_id,
        source=reply.source,
        type=reply.type,
        version=reply.version,
        content_type=reply.content_type,
        data=bytes(reply.data),
    )
    return codec.decode(envelope, registry.find(reply.type, reply.version))
