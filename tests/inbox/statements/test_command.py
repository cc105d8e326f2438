"""manage.py reconcile, with a group in the same project that answers at once."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from outbox.doctor import examine
from outbox.management.commands import reconcile
from outbox.models import Break, Reconciliation, ToState
from outbox.statements.buckets import MINUTE
from tests.inbox.statements.support import GROUP, NOW, Both, breaks, emitted, reconciling
from tests.inbox.support import Handling

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.sqlite]


@pytest.fixture
def both(handling: Handling, monkeypatch: pytest.MonkeyPatch) -> Iterator[Both]:
    """A sender and a group; what is carried is carried while the command waits."""
    handling()
    with reconciling() as found:
        found.round()
        Reconciliation.objects.update(stated=NOW + 60 * MINUTE, closed=NOW + 60 * MINUTE)
        monkeypatch.setattr(reconcile, "refresh", lambda using: found.settle())
        monkeypatch.setattr(reconcile, "LOOK_EVERY", 0.0)
        yield found


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, dict[str, Any]]:
    """Run the command; return its exit code, and what it says of the group."""
    code = 0
    try:
        call_command("reconcile", *arguments, json=True)
    except SystemExit as exc:
        code = int(exc.code or 0)
    return code, json.loads(capsys.readouterr().out)["groups"][0]


def test_it_exits_with_1_where_a_break_is_open(
    both: Both, capsys: pytest.CaptureFixture[str]
) -> None:
    """And names it; repaired, it exits with 0."""
    sent = emitted(NOW, NOW + 1)
    both.lost = {sent[0].id}
    both.settle()

    code, told = run(capsys)
    assert (code, told["open"], told["agrees"]) == (1, 1, False)
    assert [each["message_id"] for each in told["shown"]] == [sent[0].id]
    assert told["breaks"]["missing"]["open"] == 1

    code, told = run(capsys, "--repair")
    assert (code, told["open"], told["agrees"]) == (0, 0, True)
    assert both.again == [sent[0].id]
    assert breaks("repaired") == {"missing": [sent[0].id]}


def test_a_service_that_asks_all_the_time_keeps_no_command_from_its_end(
    both: Both, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Something is always under way there: what counts is what had been closed before."""
    sent = emitted(NOW)
    both.lost = {sent[0].id}
    both.settle()

    def refresh(using: str) -> None:
        both.settle()
        row = Reconciliation.objects.get()
        since, until = row.stated, row.stated + MINUTE
        ToState.objects.create(group=GROUP, since=since, until=until, width=MINUTE)
        Reconciliation.objects.update(stated=until, closed=until)

    monkeypatch.setattr(reconcile, "refresh", refresh)
    code, told = run(capsys, "--repair", "--wait", "30")
    assert (code, told["open"], told["unanswered"], told["agrees"]) == (0, 0, 0, True)
    assert both.again == [sent[0].id]


def test_it_prints_a_table(both: Both, capsys: pytest.CaptureFixture[str]) -> None:
    sent = emitted(NOW)
    both.lost = {sent[0].id}
    both.settle()
    with pytest.raises(SystemExit):
        call_command("reconcile", GROUP)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("g: compared until ")
    assert lines[1].split() == ["in_transit", "open", "repaired", "accepted"]
    assert lines[2].split() == ["missing", "0", "1", "0", "0"]
    assert sent[0].id in lines[-1]


def test_a_break_is_accepted_by_the_id_of_its_message(both: Both) -> None:
    """With a reason; else it is refused."""
    sent = emitted(NOW)
    both.lost = {sent[0].id}
    both.settle()
    both.compare()

    with pytest.raises(CommandError, match="Say why"):
        call_command("reconcile", "--accept", sent[0].id)
    call_command("reconcile", "--accept", sent[0].id, "--reason", "by hand")
    assert Break.objects.get().reason == "by hand"
    with pytest.raises(CommandError, match="No break"):
        call_command("reconcile", "--accept", sent[0].id, "--reason", "by hand")


def test_this_sides_totals_are_told_without_asking(
    both: Both, capsys: pytest.CaptureFixture[str]
) -> None:
    """By type, and of each bucket its last revision."""
    Reconciliation.objects.update(closed=NOW)
    emitted(NOW, NOW + 1, NOW + MINUTE)
    code, told = run(capsys, "--local")
    assert code == 0
    assert told["types"] == {"tests.happened": {"messages": 3, "buckets": 2, "revised": 0}}
    emitted(NOW + 2)
    _, told = run(capsys, "--local")
    assert told["types"] == {"tests.happened": {"messages": 4, "buckets": 2, "revised": 1}}
    assert not ToState.objects.exists()


def test_a_group_that_does_not_answer_is_told(
    both: Both, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody knows whether it has what was sent: that is no agreement."""
    emitted(NOW)
    monkeypatch.setattr(reconcile, "refresh", lambda using: None)
    code, told = run(capsys, "--wait", "0.2")
    assert (code, told["agrees"]) == (1, False)
    assert told["unanswered"] > 0


def test_what_is_no_group_is_refused(both: Both) -> None:
    with pytest.raises(CommandError, match="no group 'x'"):
        call_command("reconcile", "x")


def test_the_doctor_tells_of_breaks_and_of_silence(both: Both) -> None:
    """With what to do about it."""
    sent = emitted(NOW)
    both.lost = {sent[0].id}
    both.settle()
    both.compare()
    found = {each.id: each for each in examine("default")}
    assert found["outbox.statements"].level == "ok"
    assert found["outbox.breaks"].level == "warning"
    assert "--repair" in found["outbox.breaks"].hint

    Reconciliation.objects.update(answered_at=None)
    found = {each.id: each for each in examine("default")}
    assert found["outbox.statements"].level == "warning"
