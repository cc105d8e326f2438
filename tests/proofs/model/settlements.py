"""A simple model of requests, and everything that can happen to them, in any order.

The model knows of each request what has come back and what has ended it. Two sessions work at the
same requests, each in transactions that commit or are rolled back later. Whatever happens in
between, each request has at most one settlement, which is the first that was committed; the
replies that count are the first so many, and nothing changes behind the end.
"""

import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta

from django.db import connection
from django.db.models import F
from django.db.models.functions import Now
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

import outbox
from outbox.message.envelope import Envelope
from outbox.message.requests import EXPIRED
from outbox.models import Reply, Request, Scheduled, Settlement
from outbox.replies import settling
from outbox.replies.recording import RequestBusy
from tests.kit.sessions import Session
from tests.requests.support import ask

SESSIONS = st.integers(0, 1)
NUMBERS = st.integers(0, 2)
SOURCES = st.sampled_from(["/one", "/other"])
MESSAGES = st.integers(0, 3)


@dataclass
class Known:
    """What the model knows of a request, as it is committed."""

    asked: outbox.Asked
    wanted: int
    due: bool = False
    outcome: str | None = None
    replies: list[tuple[str, int]] = field(default_factory=list)
    counted: list[tuple[str, int]] = field(default_factory=list)


class RequestMachine(RuleBasedStateMachine):
    """Asks, answers, cancels, expires and fails; see the module."""

    def __init__(self) -> None:
        super().__init__()
        with connection.cursor() as cursor:
            cursor.execute(
                "TRUNCATE django_outbox_request, django_outbox_scheduled, django_outbox_message "
                "CASCADE"
            )
        self.requests: list[Known] = []
        self.sessions = [Session() for _ in range(2)]
        # Of each open transaction: the request that it holds, and what it will have done.
        self.open: dict[int, tuple[Known, Known]] = {}

    def teardown(self) -> None:
        try:
            for number in list(self.open):
                self.end(number, commits=True)
            self.nothing_but_what_is_known()
        finally:
            for session in self.sessions:
                session.close()

    @precondition(lambda self: len(self.requests) < 3)
    @rule(wanted=st.integers(1, 3))
    def ask(self, wanted: int) -> None:
        asked = ask(replies=wanted, within=timedelta(hours=1))
        self.requests.append(Known(asked, wanted))

    @rule(number=NUMBERS)
    def deadline_passes(self, number: int) -> None:
        known = self._at(number)
        if known is not None and not self._is_held(known):
            row = Request.objects.filter(message_id=known.asked.id)
            row.update(deadline=Now(), asked_at=F("asked_at") - timedelta(hours=1))
            known.due = True

    @rule(number=NUMBERS, session=SESSIONS, source=SOURCES, message=MESSAGES, stays=st.booleans())
    def answer(self, number: int, session: int, source: str, message: int, stays: bool) -> None:
        """A reply comes, perhaps not for the first time."""

        def done(known: Known) -> bool:
            name = (source, message)
            if name in known.replies:
                return False
            known.replies.append(name)
            if known.outcome is not None or len(known.counted) >= known.wanted:
                return False
            if any(counted == source for counted, _ in known.counted):
                return False  # one of each who answers
            known.counted.append(name)
            if len(known.counted) == known.wanted:
                known.outcome = "answered"
            return True

        self._do(number, session, done, self.give_answer, source, message, stays=stays)

    @rule(number=NUMBERS, session=SESSIONS, stays=st.booleans())
    def cancel(self, number: int, session: int, stays: bool) -> None:
        self._do(number, session, ended("cancelled"), self.give_cancel, stays=stays)

    @rule(number=NUMBERS, session=SESSIONS, stays=st.booleans())
    def fail(self, number: int, session: int, stays: bool) -> None:
        def done(known: Known) -> bool:
            return known.wanted == 1 and ended("failed")(known)

        self._do(number, session, done, self.give_fault, stays=stays)

    @rule(number=NUMBERS, session=SESSIONS, stays=st.booleans())
    def expire(self, number: int, session: int, stays: bool) -> None:
        """Somebody says that the deadline has passed, which need not be so."""

        def done(known: Known) -> bool:
            return known.due and ended("expired")(known)

        self._do(number, session, done, self.give_expiry, stays=stays)

    @rule(session=SESSIONS, commits=st.booleans())
    def end(self, session: int, commits: bool) -> None:
        """End a transaction, in which something was done."""
        if (pair := self.open.pop(session, None)) is None:
            return
        known, after = pair
        if commits:
            self.sessions[session].commit()
            known.outcome, known.replies, known.counted = (
                after.outcome,
                after.replies,
                after.counted,
            )
        else:
            self.sessions[session].rollback()

    # --- What is done ------------------------------------------------------------------------

    def give_answer(self, request_id: str, source: str, message: int) -> bool:
        reply = Envelope(
            id=str(uuid.UUID(int=message)),
            source=source,
            type="pricing.quote.given",
            data=b'{"amount": %d}' % message,
        )
        return settling.answer(request_id, reply, using="default", by=source)

    def give_cancel(self, request_id: str) -> bool:
        return settling.cancel(request_id, using="default")

    def give_fault(self, request_id: str) -> bool:
        return settling.fail(request_id, "ValueError", using="default", by="/one")

    def give_expiry(self, request_id: str) -> bool:
        message = Envelope(id="x", source="/one", type=EXPIRED, data=b"{}")
        return settling.expire(request_id, message, using="default")

    # --- What always holds -------------------------------------------------------------------

    @invariant()
    def nothing_but_what_is_known(self) -> None:
        """The rows are those of the model: one settlement, replies counted in their order."""
        for known in self.requests:
            request = Request.objects.get(message_id=known.asked.id)
            ends = list(
                Settlement.objects.filter(request=request).values_list("outcome", flat=True)
            )
            assert ends == ([known.outcome] if known.outcome else []), known
            rows = list(Reply.objects.filter(request=request).order_by("pk"))
            assert [(r.source, uuid.UUID(r.message_id).int) for r in rows] == known.replies
            counted = sorted((r for r in rows if r.number is not None), key=lambda r: r.number or 0)
            assert [r.number for r in counted] == list(range(1, len(counted) + 1))
            assert [(r.source, uuid.UUID(r.message_id).int) for r in counted] == known.counted
            waits = Scheduled.objects.filter(message_id=request.expiry_id).exists()
            assert waits == (known.outcome is None), known

    def _at(self, number: int) -> Known | None:
        return self.requests[number] if number < len(self.requests) else None

    def _is_held(self, known: Known) -> bool:
        return any(held is known for held, _ in self.open.values())

    def _do(
        self,
        number: int,
        session: int,
        done: Callable[[Known], bool],
        give: Callable[..., bool],
        *arguments: object,
        stays: bool,
    ) -> None:
        """Do something in a session, in a transaction that stays open if wanted."""
        known = self._at(number)
        if known is None or session in self.open:
            return
        held = self._is_held(known)
        if held and give == self.give_cancel:
            return  # it would wait for the other one, as it should
        run = self.sessions[session]
        run.begin()
        try:
            found = run.run(give, known.asked.id, *arguments)
        except RequestBusy:
            assert held
            run.rollback()
            return
        assert not held, "both have it"
        after = Known(
            known.asked,
            known.wanted,
            known.due,
            known.outcome,
            list(known.replies),
            list(known.counted),
        )
        assert found == done(after)
        self.open[session] = (known, after)
        if not stays:
            self.end(session, commits=True)


def ended(outcome: str) -> Callable[[Known], bool]:
    """Return what ends a request if nothing has."""

    def done(known: Known) -> bool:
        if known.outcome is not None:
            return False
        known.outcome = outcome
        return True

    return done
