"""The doctor has a limit of time for each part: what is slow keeps nobody from the rest."""

from collections.abc import Iterator

import pytest
from django.db import DatabaseError, connection

from inbox import doctor as inbox_doctor
from inbox.models import DeadLetter, Receipt
from outbox import doctor as outbox_doctor
from outbox.extensions import diagnosis
from outbox.extensions.diagnosis import EXIT_CODES, Finding, Level, in_time, worst
from outbox.models import Scheduled
from relay import doctor as relay_doctor
from relay.models import Parked
from tests.inbox.support import postgresql
from tests.kit.sessions import sessions

pytestmark = [pytest.mark.django_db(transaction=True), postgresql]


def _lock(table: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE")


@pytest.fixture
def _in_a_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(diagnosis, "SECONDS", 0.1)


@pytest.mark.parametrize(
    ("doctor", "model", "what", "others"),
    [
        (outbox_doctor, Scheduled, "Scheduled messages", {"outbox.settings", "outbox.clock"}),
        (relay_doctor, Parked, "Parked messages", {"relay.retention"}),
        (inbox_doctor, DeadLetter, "Dead letters", {"inbox.receipts", "inbox.overdue"}),
    ],
)
@pytest.mark.usefixtures("_in_a_moment")
def test_what_takes_too_long_is_told_and_the_rest_is_looked_at(
    doctor: object, model: type, what: str, others: set[str]
) -> None:
    """Here it waits for a table that somebody has locked; each of the three doctors."""
    with sessions(1) as [other]:
        other.begin()
        other.run(_lock, model._meta.db_table)  # type: ignore[attr-defined]
        found: list[Finding] = list(doctor.examine("default"))  # type: ignore[attr-defined]

    late = {each.about: each for each in found if each.id.endswith(".unexamined")}
    assert what in late
    assert late[what].level is Level.WARNING
    assert late[what].title == f"{what}: too much to check within 0.1 s"
    assert others <= {each.id for each in found}


def test_it_is_a_warning_for_whoever_asks_for_the_exit_code() -> None:
    """The rules of exit codes are as ever; what nobody looked at is not well."""

    def slow(using: str) -> Iterator[Finding]:
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_cancel_backend(pg_backend_pid())")
        yield Finding(level=Level.OK, id="a.b", title="T", text="t")

    found = in_time("tests", "A part", "default", slow)
    assert EXIT_CODES[worst(found)] == 1
    with connection.cursor() as cursor:  # the connection goes on, with the limits it had
        cursor.execute("SHOW statement_timeout")
        assert cursor.fetchone() == ("0",)


def test_another_error_is_none_of_it() -> None:
    """It is told as before: the examiner could not finish."""

    def wrong(using: str) -> list[Finding]:
        Receipt.objects.extra(where=["nothing"]).first()
        return []

    with pytest.raises(DatabaseError, match="nothing"):
        in_time("tests", "A part", "default", wrong)
