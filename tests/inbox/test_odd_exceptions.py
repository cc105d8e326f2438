"""Whatever the code of users raises, of whatever shape, is a failed attempt of that one call."""

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import django
import pytest
from django.core.management import call_command
from django.db import transaction
from django.test import override_settings

from inbox import Reject, RetryPolicy
from inbox.models import Receipt
from outbox.error_text import MAX_ERROR
from outbox.exceptions import ConfigurationError
from outbox.message.envelope import Envelope
from outbox.runtime.shutdown import Shutdown
from tests.inbox import support
from tests.inbox.support import (
    HAPPENED,
    Handling,
    effects,
    happened,
    make_due,
    receive,
    record,
    turn,
)
from tests.kit.odd_exceptions import ODD
from tests.kit.support import Registered
from tests.testapp.events import Happened

if django.VERSION >= (6, 0):
    from django.tasks import TaskResultStatus as Status
    from django.tasks import task
    from django.tasks.signals import task_finished
else:
    from django_tasks import TaskResultStatus as Status
    from django_tasks import task
    from django_tasks.signals import task_finished

pytestmark = pytest.mark.django_db(transaction=True)

NAMES = list(ODD)
COUNT = len(NAMES)
REJECTED = NAMES.index("a_rejection_without_text")


def raise_odd(number: int) -> None:
    """Raise what has this number in the zoo, if it is an even one; an odd one is a good neighbour.

    Each good one has bad ones on both sides.
    """
    if number % 2 == 0:
        ODD[NAMES[number // 2]]()


def zoo(**attributes: Any) -> list[Envelope]:
    return [happened(number, key=str(number), **attributes) for number in range(2 * COUNT)]


GOOD = list(range(1, 2 * COUNT, 2))


@pytest.fixture(autouse=True)
def _signals_are_handled() -> Iterator[None]:
    """As in every command: a KeyboardInterrupt is none of a person."""
    with Shutdown() as shutdown:
        shutdown.install()
        yield


def test_a_handler_may_raise_anything(handling: Handling, caplog: pytest.LogCaptureFixture) -> None:
    """Neighbours are handled, the retry policy applies, and the receipt says what it was."""

    def odd(event: Happened, message: Envelope) -> None:
        record(event, message, "odd")
        raise_odd(event.number)

    handling(odd, name="odd", retry=RetryPolicy(attempts=2))

    results = receive(*zoo())

    assert effects() == GOOD
    assert [each.handled for each in results] == [0, 1] * COUNT
    assert [each.retrying + each.dead for each in results] == [1, 0] * COUNT
    assert results[2 * REJECTED].dead == 1
    make_due()
    turn(seconds=60.0)
    receipts = Receipt.objects.exclude(state="processed").order_by("message_id")
    assert [each.state for each in receipts] == ["dead"] * COUNT
    for name, receipt in zip(NAMES, receipts, strict=True):
        assert receipt.error, name
        assert len(receipt.error) <= MAX_ERROR, name
    assert effects() == GOOD
    told = support.records(caplog, "Handler odd failed on")
    assert len(told) == 2 * COUNT - 1


def test_an_event_class_may_raise_anything(handling: Handling, registered: Registered) -> None:
    """What an event's class raises makes its message unusable, and that of nobody else.

    Only a lack of memory is none of the data's: that is a failed attempt.
    """

    @dataclass
    class Odd:
        number: int
        key: str

        def __post_init__(self) -> None:
            raise_odd(self.number)

    registered("tests.odd", Odd, key="key")
    handling(pattern="tests.odd")

    results = receive(*zoo(type="tests.odd", topic="tests.odd"))

    expected = [each for name in ODD for each in ((0, int(name != "no_memory")), (1, 0))]
    assert [(each.handled, each.dead) for each in results] == expected
    assert sum(each.retrying for each in results) == 1
    reasons = Receipt.objects.filter(state="dead").values_list("reason", flat=True)
    assert set(reasons) == {"invalid_data"}


def test_what_numbers_a_sequence_may_raise_anything(handling: Handling) -> None:
    """Then it is the data that do not fit."""

    def number(event: Happened) -> int:
        try:
            raise_odd(event.number)
        except MemoryError:  # a reason to try again, as another test says
            raise RuntimeError from None
        return event.number

    handling(ordered=True, sequence=number, sequence_start=None)

    results = receive(*zoo())

    assert [(each.handled, each.dead) for each in results] == [(0, 1), (1, 0)] * COUNT


def test_a_sequence_that_memory_does_not_suffice_for_is_tried_again(handling: Handling) -> None:
    """Nothing of its key passes it meanwhile."""
    short = [True]

    def number(event: Happened) -> int:
        if event.number == 1 and short[0]:
            raise MemoryError
        return event.number

    handling(ordered=True, sequence=number, sequence_start=1)
    results = receive(happened(1), happened(2))
    assert [(each.retrying, each.waiting) for each in results] == [(1, 0), (0, 1)]
    make_due()
    assert turn().retrying == 1
    short[0] = False
    for _ in range(3):
        make_due()
        turn()

    assert effects() == [1, 2]


class Hook:
    """Has no name, as a partial has none."""

    def __init__(self, number: int) -> None:
        self._number = number

    def __call__(self) -> None:
        raise_odd(self._number)


def test_a_commit_hook_may_raise_anything(
    handling: Handling, caplog: pytest.LogCaptureFixture
) -> None:
    """What is committed is committed; the hooks of others run, and each error is told."""
    ran: list[int] = []

    def hooked(event: Happened, message: Envelope) -> None:
        record(event, message)
        transaction.on_commit(lambda: raise_odd(event.number), robust=True)
        transaction.on_commit(Hook(event.number))
        transaction.on_commit(lambda: ran.append(event.number))

    handling(hooked)

    results = receive(*zoo())

    assert [each.handled for each in results] == [1] * 2 * COUNT
    assert ran == list(range(2 * COUNT))
    assert len(support.records(caplog, "Error calling Hook in on_commit()")) == COUNT
    assert len(support.records(caplog, "Error calling")) == 2 * COUNT


class _OddPolicy(RetryPolicy):
    number: ClassVar[int] = 0

    @property
    def backoff(self) -> Any:
        raise_odd(self.number)


def test_a_retry_policy_may_raise_anything(
    handling: Handling, caplog: pytest.LogCaptureFixture
) -> None:
    """The usual one decides then, and the error is told."""
    for number in range(COUNT):
        policy = type("Odd", (_OddPolicy,), {"number": 2 * number})()
        handling(support.fail, name=f"odd {number}", retry=policy)
    handling(name="record")

    results = receive(happened(1), happened(2))

    assert [(each.handled, each.retrying) for each in results] == [(1, COUNT)] * 2
    assert len(support.records(caplog, "The retry policy of handler odd")) == 2 * COUNT


def test_a_policy_that_is_none_is_refused(handling: Handling) -> None:
    """At the start, and not with the first failure."""
    with pytest.raises(ConfigurationError, match=r"retry is an inbox\.RetryPolicy"):
        handling(retry=lambda attempt: 3)


def test_a_policy_whose_pause_is_none_is_not_followed(handling: Handling) -> None:
    """The usual one decides."""

    def policy(pause: Any) -> RetryPolicy:
        class Pause:
            def delay(self, attempt: int) -> Any:
                return pause

        return type("Policy", (RetryPolicy,), {"backoff": Pause()})()

    for number, pause in enumerate([None, "soon", -1, float("nan"), float("inf"), 10**400]):
        handling(support.fail, name=f"odd {number}", retry=policy(pause))

    [result] = receive(happened(1))

    assert result.retrying == 6


def test_what_is_called_for_the_dead_may_raise_anything(
    handling: Handling, caplog: pytest.LogCaptureFixture
) -> None:
    """Everything is committed by then, and those after it are told as well."""
    called = iter(range(0, 2 * COUNT, 2))

    def reject(event: Any, message: Envelope) -> None:
        raise Reject("no")

    handling(reject, name="odd", on_dead=lambda message_id, exc: raise_odd(next(called)))

    results = receive(*zoo()[:COUNT])

    assert [each.dead for each in results] == [1] * COUNT
    assert len(support.records(caplog, "Handler odd failed on")) == COUNT
    assert next(called, None) is None


@task
def odd_task(number: int) -> int:
    """Raise something odd."""
    raise_odd(number)
    return number


def test_a_task_may_raise_anything(caplog: pytest.LogCaptureFixture) -> None:
    """It has failed, with class and traceback, and so may a receiver of its signals."""
    heard: list[str] = []
    for framework in ("django.tasks", "django_tasks"):
        # It logs texts as they are, which pytest's processes cannot tell each other.
        caplog.set_level(logging.CRITICAL + 1, framework)

    def hear(task_result: Any, **_: Any) -> None:
        heard.append(task_result.id)
        raise_odd(2 * (len(heard) % COUNT))

    tasks = {"default": {"BACKEND": "inbox.tasks.OutboxBackend"}}
    with override_settings(TASKS=tasks):
        results = [odd_task.enqueue(number) for number in range(2 * COUNT)]
        task_finished.connect(hear)
        try:
            call_command("relay", "--until-empty", verbosity=0)
        finally:
            task_finished.disconnect(hear)
        for name, result in zip(NAMES, results[::2], strict=True):
            result.refresh()
            assert (name, result.status) == (name, Status.FAILED)
            assert result.errors[0].traceback
            assert result.errors[0].exception_class_path
        for number, result in enumerate(results[1::2]):
            result.refresh()
            assert result.return_value == 2 * number + 1
    assert len(heard) >= COUNT


def test_a_handler_may_leave_the_process(handling: Handling) -> None:
    """sys.exit() in a handler is a failed attempt, and so is a KeyboardInterrupt that it raises."""
    raised: list[type[BaseException]] = [SystemExit, KeyboardInterrupt]

    def leave(event: Happened, message: Envelope) -> None:
        raise raised[event.number]

    handling(leave)

    results = receive(happened(0), happened(1))

    assert [each.retrying for each in results] == [1, 1]
    errors = Receipt.objects.order_by("message_id").values_list("error", flat=True)
    assert list(errors) == ["SystemExit: ", "KeyboardInterrupt: "]


def test_a_users_log_handler_may_fail_on_it(handling: Handling) -> None:
    """It gets the text alone then, and the consumer goes on."""
    told: list[str] = []

    class Sink(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if record.exc_info:
                str(record.exc_info[1])
            told.append(record.getMessage())

    logger, sink = logging.getLogger("inbox"), Sink()
    logger.addHandler(sink)
    try:
        handling(lambda event, message: ODD["str_exits"](), name="odd")
        receive(happened(1))
    finally:
        logger.removeHandler(sink)

    assert len(told) == 1
    assert HAPPENED in told[0]
