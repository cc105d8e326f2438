"""What a receipt keeps of the attempts of its handler: a traceback, and the last of them."""

import copy
import json
import os
import re
import socket
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.core.management import call_command
from django.test import Client, override_settings

from inbox import Reject, RetryPolicy, operator
from inbox.ledger import attempts
from inbox.ledger.attempts import MAX_ERROR, MOST, Attempt
from inbox.ledger.tracebacks import MAX_TRACEBACK, traceback_of, without_libraries
from inbox.models import Receipt
from outbox.message.envelope import Envelope
from outbox.runtime.shutdown import Shutdown
from tests.inbox.support import (
    Handling,
    Mended,
    effects,
    fail,
    happened,
    make_due,
    receive,
    record,
    turn,
)
from tests.kit.admin_pages import ALL_MODELS, detail_url, log_in, page, shown
from tests.kit.odd_exceptions import ODD, each_odd

pytestmark = [pytest.mark.sqlite, pytest.mark.django_db(transaction=True)]

RETRIED = RetryPolicy(attempts=100)


def kept() -> list[Attempt]:
    return attempts.read(Receipt.objects.get().last_attempts)


def again(times: int = 1) -> None:
    """Let the retry policy's pauses be over, so many times."""
    for _ in range(times):
        make_due()
        assert turn().settled == 1


class Bottom:
    """Cannot be copied."""

    def __deepcopy__(self, memo: object) -> object:
        raise ValueError("the bottom")


def deep(number: int) -> None:
    """Fail far down in a library."""
    nested: list[Any] = [Bottom()]
    for _ in range(200):
        nested = [nested]
    copy.deepcopy(nested)


# --- Tracebacks ----------------------------------------------------------------------------------


def test_a_receipt_keeps_the_traceback_of_its_error(handling: Handling) -> None:
    """From where the handler is called to where it raised."""
    handling(fail)
    receive(happened())

    receipt = Receipt.objects.get()
    assert receipt.error == "ValueError: no luck"
    assert receipt.traceback is not None
    assert receipt.traceback.startswith("Traceback (most recent call last):\n")
    assert 'support.py", line' in receipt.traceback
    assert receipt.traceback.endswith(
        'in fail\n    raise ValueError("no luck")\nValueError: no luck\n'
    )


def test_what_is_processed_at_once_keeps_nothing(handling: Handling) -> None:
    """Most receipts; they take no more space than before."""
    handling()
    receive(happened())

    assert Receipt.objects.values_list("traceback", "last_attempts").get() == (None, None)


def test_the_traceback_goes_with_the_error_and_the_attempts_stay(handling: Handling) -> None:
    """When the handler is mended: what was processed in the end tells what went before."""
    handling(Mended(2), retry=RETRIED)
    receive(happened())
    again(2)

    receipt = Receipt.objects.get()
    assert (receipt.state, receipt.error, receipt.traceback) == ("processed", None, None)
    assert [each.error for each in kept()] == ["ValueError: no luck"] * 2 + [None]


def test_data_that_does_not_fit_leaves_no_traceback(handling: Handling) -> None:
    """It would tell values of the message, which errors never do; and nothing was called."""
    handling()
    receive(happened(data=b'{"key": "s3cret", "number": "s3cret"}'))

    receipt = Receipt.objects.get()
    assert receipt.reason == "invalid_data"
    assert (receipt.traceback, receipt.last_attempts) == (None, None)


@pytest.mark.parametrize("caused", [False, True])
def test_a_verdict_has_a_traceback_if_it_has_a_cause(caused: bool, handling: Handling) -> None:
    """By itself it is a handler's decision, and no fault."""

    def refuse(event: object, message: Envelope) -> None:
        raise Reject("not with us") from (KeyError("customer") if caused else None)

    handling(refuse)
    receive(happened())

    receipt = Receipt.objects.get()
    assert ("KeyError: 'customer'" in (receipt.traceback or "")) is caused
    assert [each.error for each in kept()] == ["not with us"]


def test_a_long_traceback_keeps_the_frames_of_the_service(handling: Handling) -> None:
    """Those of libraries go first, then what is in the middle."""
    handling(lambda event, message: deep(1))
    receive(happened())

    text = Receipt.objects.get().traceback or ""
    assert len(text) <= MAX_TRACEBACK
    assert "in deep\n    copy.deepcopy(nested)\n" in text
    assert "copy.py" not in text
    assert "\n  ...\n" in text
    assert text.splitlines()[-1] == "ValueError: the bottom"


def test_frames_of_libraries_become_one_ellipsis() -> None:
    """In every exception of a chain, and in groups; other lines stay."""
    library, own = '/x/site-packages/lib.py", line 1, in f', '/srv/shop/views.py", line 2, in g'
    frames = (
        f'  File "{library}\n    call()\n    ~~~~^^\n  [Previous line repeated 9 more times]\n'
        f'  File "{library}\n    call()\n'
    )
    mine = f'  File "{own}\n    buy()\n'
    text = (
        f"Traceback:\n{frames}{mine}{frames}ValueError: 1\n    indented\n\nDuring:\n{frames}E: 2\n"
    )

    shortened = (
        f"Traceback:\n  ...\n{mine}  ...\nValueError: 1\n    indented\n\nDuring:\n  ...\nE: 2\n"
    )
    assert without_libraries(text) == shortened
    grouped = re.sub("^", "  | ", text, flags=re.MULTILINE)
    assert without_libraries(grouped) == re.sub("^", "  | ", shortened, flags=re.MULTILINE)


@each_odd
def test_any_exception_has_a_bounded_traceback(name: str) -> None:
    """Also those whose text cannot be made, and chains and groups without end."""
    with Shutdown() as shutdown:
        shutdown.install()
        try:
            ODD[name]()
        except BaseException as exc:
            text = traceback_of(exc)
    assert 0 < len(text) <= MAX_TRACEBACK
    assert "\x00" not in text
    text.encode()


@each_odd
def test_any_exception_can_be_kept(name: str, handling: Handling) -> None:
    """By the database as well; the neighbour in the batch is handled."""

    def odd(event: Any, message: Envelope) -> None:
        if event.number == 1:
            ODD[name]()
        record(event, message)

    handling(odd)
    with Shutdown() as shutdown:
        shutdown.install()
        receive(happened(1), happened(2))

    receipt = Receipt.objects.exclude(state="processed").get()
    [attempt] = attempts.read(receipt.last_attempts)
    assert attempt.error
    assert len(attempt.error) <= MAX_ERROR
    assert receipt.reason in ("retry", "rejected") or receipt.traceback
    assert effects() == [2]


def test_a_text_is_asked_for_twice(handling: Handling) -> None:
    """For the error and for the traceback, which the log has as well: some take their time."""
    asked: list[bool] = []

    class Slow(Exception):
        def __str__(self) -> str:
            asked.append(True)
            return "slow"

    def fail_slowly(event: object, message: Envelope) -> None:
        raise Slow

    handling(fail_slowly)
    receive(happened())

    assert len(asked) == 2


# --- The last attempts ---------------------------------------------------------------------------


def test_an_attempt_says_when_how_long_where_and_why(handling: Handling) -> None:
    """As JSON, with names."""
    before = datetime.now(UTC)
    handling(fail)
    receive(happened())

    [attempt] = json.loads(Receipt.objects.get().last_attempts or "")
    at = datetime.fromisoformat(attempt["at"])
    assert before - timedelta(seconds=1) < at < datetime.now(UTC) + timedelta(seconds=1)
    assert 0 <= attempt["seconds"] < 60
    assert attempt["process"] == f"{socket.gethostname()}:{os.getpid()}"
    assert attempt["error"] == "ValueError: no luck"


def test_the_last_ten_attempts_are_kept(handling: Handling) -> None:
    """Each with its own error, cut; a receipt that is tried for ever does not grow."""
    calls: list[int] = []

    def worse(event: object, message: Envelope) -> None:
        calls.append(len(calls))
        raise ValueError(f"failure {calls[-1]} " + "x" * 10_000)

    handling(worse, retry=RETRIED)
    receive(happened())
    again(MOST + 2)

    assert [(each.error or "").split()[2] for each in kept()] == [
        str(number) for number in range(3, MOST + 3)
    ]
    assert {len(each.error or "") for each in kept()} == {MAX_ERROR}
    assert len(Receipt.objects.get().last_attempts or "") < MOST * (MAX_ERROR + 200)


def test_a_person_who_retries_does_not_lose_the_story(handling: Handling) -> None:
    """All attempts are before the receipt again, and those behind it are kept."""
    handling(Mended(1), retry=RetryPolicy(attempts=1))
    receive(happened())
    operator.retry(list(Receipt.objects.values_list("pk", flat=True)), using="default")
    assert len(kept()) == 1
    again()

    assert [each.error for each in kept()] == ["ValueError: no luck", None]


def test_what_waits_again_keeps_its_attempts(handling: Handling) -> None:
    """Nothing was called, so there is no other attempt."""
    handling(Mended(9), ordered=True, sequence="number", sequence_start=None, retry=RETRIED)
    first = happened(5)
    receive(first)
    Receipt.objects.update(place=9)  # as if its number had not been known when it came
    make_due()
    turn()

    receipt = Receipt.objects.get()
    assert (receipt.state, receipt.traceback) == ("waiting", None)
    assert len(kept()) == 1


def test_the_end_of_a_process_is_an_attempt(handling: Handling) -> None:
    """Nobody knows more of it than that; the receipt is dead."""
    handling(Mended(1))
    receive(happened())
    make_due()
    Receipt.objects.update(begun=3)
    assert turn().dead == 1

    first, last = kept()
    assert first.seconds is not None
    assert (last.seconds, last.process) == (None, "")
    assert "3 processes ended" in (last.error or "")


@pytest.mark.parametrize("stored", [None, "", "no JSON", "[1]", '[{"at": null}]'])
def test_what_others_have_written_is_no_error(stored: str | None) -> None:
    """The column is text; an attempt without a name or a time is shown as far as it goes."""
    assert attempts.read(stored) in ([], [Attempt("", None)])
    assert len(attempts.read(attempts.add(stored, Attempt("now", "failed")))) >= 1


# --- Secrets -------------------------------------------------------------------------------------

SECRET = "hunter2"


def leak(event: Any, message: Envelope) -> None:
    """Fail, and say too much."""
    try:
        raise KeyError(f"DETAIL:  Key (api_token)=({SECRET}) already exists.")
    except KeyError as exc:
        raise ValueError(f"amqp://shop:{SECRET}@mq {{'password': '{SECRET}'}}") from exc


def test_no_secret_is_kept_of_an_error(
    handling: Handling, caplog: pytest.LogCaptureFixture, client: Client
) -> None:
    """Nor shown or logged: neither in the error nor in the traceback or the attempts."""
    log_in(client, *ALL_MODELS)
    handling(leak, retry=RETRIED)
    receive(happened())
    again()

    receipt = Receipt.objects.get()
    assert receipt.error == "ValueError: amqp://•••@mq {'password': •••}"
    assert "Key (api_token)=(•••) already exists." in receipt.traceback
    assert len(attempts.read(receipt.last_attempts)) == 2
    texts = [receipt.error, receipt.traceback, receipt.last_attempts]
    texts += [page(client, detail_url(receipt))]
    texts += [str(record.exc_text) + record.getMessage() for record in caplog.records]
    assert len(texts) >= 6
    assert all(SECRET not in text for text in texts)


def test_a_secret_that_straddles_what_is_cut_is_not_kept(handling: Handling) -> None:
    """It is masked first."""
    long = "".join(f"password={SECRET} " for _ in range(2_000))

    def fail_at_length(event: Any, message: Envelope) -> None:
        raise ValueError(long)

    handling(fail_at_length, retry=RETRIED)
    receive(happened())

    receipt = Receipt.objects.get()
    assert not re.search("hun|ter2", f"{receipt.error}{receipt.traceback}{receipt.last_attempts}")


def test_what_is_processed_keeps_only_what_is_masked(handling: Handling) -> None:
    """Also of attempts that an earlier version has kept."""
    handling(Mended(1), retry=RETRIED)
    receive(happened())
    Receipt.objects.update(last_attempts=json.dumps([{"at": "", "error": f"token={SECRET}"}]))
    again()

    receipt = Receipt.objects.get()
    assert (receipt.state, receipt.traceback) == ("processed", None)
    assert [each.error for each in attempts.read(receipt.last_attempts)] == ["token=•••", None]


@override_settings(OUTBOX={"REDACT": ["colour"]})
def test_the_words_are_a_setting(handling: Handling) -> None:
    """OUTBOX["REDACT"], as for what the admin shows of messages."""

    def paint(event: Any, message: Envelope) -> None:
        raise ValueError("colour=blue password=x")

    handling(paint)
    receive(happened())

    assert Receipt.objects.get().error == "ValueError: colour=••• password=x"


# --- The page ------------------------------------------------------------------------------------


@pytest.mark.parametrize("zoned", [True, False])
def test_the_page_shows_both(zoned: bool, handling: Handling, client: Client) -> None:
    """The attempts with the latest first, and the traceback as text."""
    log_in(client, *ALL_MODELS)
    handling(Mended(2), retry=RETRIED)
    receive(happened())
    again()
    with override_settings(USE_TZ=zoned):
        text = shown(page(client, detail_url(Receipt.objects.get())))

    assert "Last attempts" in text
    assert text.count("ValueError: no luck") >= 3
    assert socket.gethostname() in text
    assert "Traceback (most recent call last):" in text

    again()
    text = shown(page(client, detail_url(Receipt.objects.get())))
    assert text.index("processed", text.index("Last attempts")) < text.index("ValueError")
    assert "Traceback (most recent" not in text


def test_a_list_reads_neither(handling: Handling, client: Client) -> None:
    """A hundred tracebacks are close to a megabyte."""
    from inbox.admin.receipts import ReceiptAdmin  # noqa: PLC0415 - registers itself

    assert {"traceback", "last_attempts"} <= set(ReceiptAdmin.list_defer)


def test_the_columns_come_and_go() -> None:
    """By a migration that can be undone."""
    call_command("migrate", "django_inbox", "0006", verbosity=0)
    call_command("migrate", "django_inbox", verbosity=0)

    assert Receipt.objects.filter(traceback=None).count() == 0
