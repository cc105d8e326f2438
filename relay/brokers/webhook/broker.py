"""POST callbacks to URLs: the settlement of a request, to whom has asked for it.

Receivers share nothing: each has a few threads at most. A page waits for nobody longer than its
time. What has not been answered by then is parked, and its answer is taken when it comes round: it
is not sent twice, unless this process ends in between, or another one has the next turn. A receiver
that is away is left alone for longer and longer, and what it should get is parked meanwhile.
"""

import random
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any, ClassVar, NamedTuple, Self
from uuid import UUID

from django.core.checks import CheckMessage
from msgspec.structs import replace

from outbox.conf import parse
from outbox.exceptions import ConfigurationError
from outbox.message import structured
from outbox.message.envelope import JSON, Envelope
from outbox.models import Request
from outbox.webhooks.conf import WHERE, webhook_settings
from outbox.webhooks.signing import sign
from outbox.webhooks.urls import flaw, origin_of
from relay.brokers.base import Broker, Outcome, Status, unusable
from relay.brokers.webhook.answers import Answer
from relay.brokers.webhook.options import WebhookOptions
from relay.brokers.webhook.posting import post
from relay.brokers.webhook.receivers import MAX_RECEIVERS, Receiver

LOOK_AGAIN = 1.0
"""Seconds until a callback comes round that has no answer yet, or had no turn; about."""
KEPT = 600.0
"""Seconds for which an answer is kept for its callback to come round."""


class Call(NamedTuple):
    """One callback that can be sent."""

    url: str
    owner: str
    message: Envelope


@dataclass(frozen=True, slots=True)
class Flight:
    """One that is under way."""

    future: Future[Answer]
    receiver: Receiver


class WebhookBroker(Broker):
    """POSTs CloudEvents in JSON with the signature of Standard Webhooks, and nothing but callbacks.

    Its options are those of WebhookOptions. With what is signed, and where may be called, is in
    OUTBOX["WEBHOOKS"].
    """

    confirms: ClassVar[bool] = True
    durable: ClassVar[bool] = True
    carries_events: ClassVar[bool] = False
    carries_callbacks: ClassVar[bool] = True
    messaging_system: str = "http"

    def __init__(self, options: WebhookOptions, *, using: str) -> None:
        self._options = options
        self._using = using
        self._workers: ThreadPoolExecutor | None = None
        self._receivers: dict[str, Receiver] = {}
        self._flying: dict[str, Flight] = {}
        self._landed: dict[str, tuple[Outcome, float]] = {}

    @classmethod
    def from_settings(cls, url: str, options: Mapping[str, Any], *, using: str) -> Self:
        if url:
            raise ConfigurationError("WebhookBroker has no URL: each callback has its own")
        return cls(parse(WebhookOptions, options, "OPTIONS"), using=using)

    @property
    def address(self) -> str:
        return "the callback URLs of requests"

    def publish(self, page: Sequence[Envelope]) -> list[Outcome]:
        ends = time.monotonic() + self.page_seconds
        self._land()
        outcomes: list[Outcome | None] = [None] * len(page)
        calls = self._calls([each for each in page if not self._is_known(each.id)])
        queues: dict[str, deque[tuple[int, Call]]] = {}
        earlier = set(self._flying)
        for index, message in enumerate(page):
            call = calls.get(message.id)
            if isinstance(call, Outcome):
                outcomes[index] = call
            elif call is not None:
                queues.setdefault(origin_of(call.url), deque()).append((index, call))
        while True:
            for origin, queue in queues.items():
                self._send(self._receiver(origin), queue, outcomes)
            self._collect(page, outcomes)
            under_way = [
                self._flying[message.id].future
                for index, message in enumerate(page)
                if outcomes[index] is None and message.id in self._flying.keys() - earlier
            ]
            left = ends - time.monotonic()
            if not under_way or left <= 0:
                break
            began = time.monotonic()
            wait(under_way, timeout=min(left, 1e6), return_when=FIRST_COMPLETED)
            self.waited += time.monotonic() - began
            self._land()
        return [
            outcome or self._later(message) for outcome, message in zip(outcomes, page, strict=True)
        ]

    def close(self) -> None:
        if self._workers is not None:
            self._workers.shutdown(wait=False, cancel_futures=True)
            self._workers = None
        self._flying.clear()
        self._landed.clear()
        self._receivers.clear()

    def _is_known(self, message_id: str) -> bool:
        return message_id in self._flying or message_id in self._landed

    def _calls(self, messages: Iterable[Envelope]) -> dict[str, Call | Outcome]:
        """Return for each message how to send it, or why it cannot be sent. One statement."""
        ids = {message.id: _request_id(message) for message in messages}
        if not ids:
            return {}
        conf = webhook_settings()
        rows = Request.objects.using(self._using).filter(
            message_id__in=[each for each in ids.values() if each]
        )
        known: dict[UUID | None, tuple[str, str]] = {
            request_id: (url, owner)
            for request_id, url, owner in rows.values_list("message_id", "callback_url", "owner")
        }
        found: dict[str, Call | Outcome] = {}
        for message in messages:
            url, owner = known.get(ids[message.id], ("", ""))
            if not url:
                text = "its request is no longer there, and with it the URL"
                found[message.id] = Outcome(Status.REFUSED, text, final=True)
            elif problem := flaw(url, http=conf.HTTP):
                found[message.id] = Outcome(Status.REFUSED, f"its URL {problem}")
            elif not conf.secrets_of(owner):
                text = f"there is no secret to sign it with in {WHERE}"
                found[message.id] = Outcome(Status.REFUSED, text)
            else:
                found[message.id] = Call(url, owner, message)
        return found

    def _send(
        self,
        receiver: Receiver,
        queue: deque[tuple[int, Call]],
        outcomes: list[Outcome | None],
    ) -> None:
        """Send what a receiver has room for; refuse all of it if the receiver is away."""
        while queue and len(self._flying) < self._options.WORKERS and receiver.has_room:
            if refusal := receiver.refusal():
                for index, _ in queue:
                    outcomes[index] = refusal
                queue.clear()
                return
            _, call = queue.popleft()
            if self._workers is None:
                self._workers = ThreadPoolExecutor(self._options.WORKERS, "webhook")
            sending = self._workers.submit(self._post(call))
            receiver.flying += 1
            self._flying[call.message.id] = Flight(sending, receiver)

    def _post(self, call: Call) -> Callable[[], Answer]:
        """Return what POSTs a callback, for another thread; the signature has the time of now."""
        conf = webhook_settings()
        message = call.message
        body = structured.encode(replace(message, content_type=JSON))
        signature = sign(message.id, body, conf.secrets_of(call.owner), datetime.now(UTC))
        return partial(
            post,
            call.url,
            body,
            {"Content-Type": structured.EVENT, **signature},
            timeout=self._options.TIMEOUT,
            ca_file=self._options.CA_FILE,
            subnets=conf.subnets,
        )

    def _land(self) -> None:
        """Take note of all that has been answered, whichever page it was sent with."""
        now = time.monotonic()
        done = [name for name, flight in self._flying.items() if flight.future.done()]
        for message_id in done:
            flight = self._flying.pop(message_id)
            answer = flight.future.result()
            flight.receiver.landed(answer)
            self._landed[message_id] = (answer.outcome, now)
        old = [name for name, (_, since) in self._landed.items() if now - since > KEPT]
        for message_id in old:
            del self._landed[message_id]

    def _collect(self, page: Sequence[Envelope], outcomes: list[Outcome | None]) -> None:
        for index, message in enumerate(page):
            if outcomes[index] is None and (landed := self._landed.pop(message.id, None)):
                outcomes[index] = landed[0]

    def _later(self, message: Envelope) -> Outcome:
        why = "has not answered yet" if message.id in self._flying else "has others to answer first"
        pause = LOOK_AGAIN * random.uniform(0.5, 1.5)  # noqa: S311 - no secret
        return Outcome(Status.LATER, f"the receiver {why}", after=pause)

    def _receiver(self, origin: str) -> Receiver:
        if (found := self._receivers.get(origin)) is None:
            if len(self._receivers) >= MAX_RECEIVERS:
                idle = [name for name, each in self._receivers.items() if each.is_idle]
                for name in idle or list(self._receivers)[:1]:
                    del self._receivers[name]
            found = self._receivers[origin] = Receiver(self._options.PER_RECEIVER)
        return found

    @classmethod
    def check(cls, name: str, url: str, options: Mapping[str, Any]) -> list[CheckMessage]:
        """E002 for what is unusable, and if there is nothing to sign with."""
        messages = super().check(name, url, options)
        try:
            if not webhook_settings().SECRETS:
                text = f"there is no secret to sign callbacks with in {WHERE}['SECRETS']"
                messages += unusable(name, ConfigurationError(text))
        except ConfigurationError:
            pass  # is E001 or E009 of the outbox
        return messages


def _request_id(message: Envelope) -> UUID | None:
    try:
        return UUID(message.subject or "")
    except ValueError:
        return None
