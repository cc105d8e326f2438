"""Publish again through the API: one message, or all that a filter selects."""

from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.db import transaction
from django.test import override_settings

import outbox
from outbox.api import actions
from outbox.message.envelope import Envelope
from outbox.models import DoneOnce, Message
from relay.brokers.base import CONFIRMED, Broker, Outcome, Status, behind
from relay.log import open_log
from relay.models import Parked
from relay.transfer import transfer
from tests.kit.api import VIEW, WHY, Caller
from tests.kit.support import Counted, RecordingBroker

pytestmark = [pytest.mark.sqlite, pytest.mark.django_db(transaction=True)]
OPERATOR = (*VIEW, "django_relay.replay_checkpoint")


class Noting(Broker):
    """Takes all but some, and notes what it took."""

    confirms = ordered = durable = True
    taken: list[str] = []
    refuses: set[str] = set()

    @classmethod
    def from_settings(cls, url: str, options: Any, *, using: str) -> "Noting":
        return cls()

    def publish(self, page: Sequence[Envelope]) -> Sequence[Outcome]:
        outcomes: list[Outcome] = []
        for message in page:
            if any(each is not CONFIRMED for each in outcomes):
                outcomes.append(behind(page[0].id))
            elif message.id in self.refuses:
                outcomes.append(Outcome(Status.NACKED, "no: password=hunter2"))
            else:
                self.taken.append(message.id)
                outcomes.append(CONFIRMED)
        return outcomes

    @property
    def address(self) -> str:
        return "here"


NOTING = {"BACKEND": f"{__name__}.Noting"}


@pytest.fixture(autouse=True)
def taken() -> Iterator[list[str]]:
    Noting.taken, Noting.refuses = [], set()
    with override_settings(OUTBOX={"LANES": 1}, RELAYS={"default": NOTING}):
        yield Noting.taken


@pytest.fixture
def operator() -> Caller:
    return Caller("operator", *OPERATOR)


def emit(count: int = 1, key: str = "a") -> list[str]:
    with transaction.atomic():
        return [outbox.emit(Counted(key, number)).id for number in range(count)]


def publish(relay: str = "default") -> None:
    transfer(open_log(relay, using="default"), RecordingBroker(), 0, 100)


def test_one_message_is_published_again(operator: Caller, taken: list[str]) -> None:
    """And written down, with the reason."""
    [one, _other] = emit(2)
    publish()

    answer = operator.post(f"messages/{one}/replay")

    assert answer == {"id": one, "changed": True, "state": "published"}
    assert taken == [one]
    entry = LogEntry.objects.get()
    assert entry.change_message == f"Published again by relay default. {WHY['reason']}"
    assert operator.get("doings")["results"][0]["what"] == entry.change_message


def test_it_takes_a_permission_and_a_reason(operator: Caller, taken: list[str]) -> None:
    """Those of the page in the admin."""
    [one] = emit()
    publish()
    viewer = Caller("viewer", *VIEW)
    for path in (f"messages/{one}/replay", "messages/replay"):
        assert "replay_checkpoint" in viewer.post(path, status=403)["detail"]
    blind = Caller("blind", "django_relay.replay_checkpoint")
    assert blind.post(f"messages/{one}/replay", status=403)
    assert operator.post(f"messages/{one}/replay", {}, status=400)["errors"]["reason"]
    assert taken == []


def test_what_is_not_published_is_a_conflict(operator: Caller, taken: list[str]) -> None:
    """With the true state; what is parked is for its own actions."""
    [one] = emit()
    assert operator.post(f"messages/{one}/replay", status=409)["state"] == "pending"
    publish()
    row = Message.objects.get()
    Parked.objects.create(
        relay="default",
        lane=0,
        position=row.position,
        message_id=one,
        type=row.type,
        topic=row.topic,
        state="dead",
        reason="nacked",
        error="",
        parked_at=row.time,
    )
    assert operator.post(f"messages/{one}/replay", status=409)["state"] == "dead"
    assert taken == []
    assert not LogEntry.objects.exists()


def test_of_several_relays_one_is_named(operator: Caller, taken: list[str]) -> None:
    """None is guessed."""
    [one] = emit()
    with override_settings(RELAYS={"default": NOTING, "archive": NOTING}):
        publish("archive")
        for body in (WHY, WHY | {"relay": "nobody"}):
            said = operator.post(f"messages/{one}/replay", body, status=400)
            assert said["errors"]["relay"] == ["Name the relay: archive, default."]
        pending = operator.post(f"messages/{one}/replay", WHY | {"relay": "default"}, status=409)
        assert pending["state"] == "pending"
        assert operator.post(f"messages/{one}/replay", WHY | {"relay": "archive"})["changed"]
    assert taken == [one]


def test_with_a_key_it_is_done_once(operator: Caller, taken: list[str]) -> None:
    """As when an answer got lost; without one, or with another, it is done again."""
    [one] = emit()
    publish()

    def ask(key: str, status: int = 200) -> Any:
        headers = {"Idempotency-Key": key} if key else {}
        sent = operator.client.post(
            f"/api/messages/{one}/replay", WHY, content_type="application/json", headers=headers
        )
        assert sent.status_code == status
        return sent.json()

    assert ask("7") == ask("7")
    assert (len(taken), LogEntry.objects.count()) == (1, 1)
    ask("8")
    ask("")
    ask("")
    assert len(taken) == 4
    assert ask("x" * 201, 400)["errors"]["Idempotency-Key"]

    DoneOnce.objects.update(answer=None)  # its process has died within
    assert "begun before" in ask("7", 409)["detail"]
    assert len(taken) == 4


def test_what_the_broker_does_not_take_is_told(operator: Caller, taken: list[str]) -> None:
    """Without secrets; it can be asked for again with the same key."""
    [one] = emit()
    publish()
    Noting.refuses = {one}
    headers = {"Idempotency-Key": "7"}
    path = f"/api/messages/{one}/replay"
    sent = operator.client.post(path, WHY, content_type="application/json", headers=headers)

    assert sent.status_code == 502
    assert sent.json()["type"].endswith("#broker")
    assert "hunter2" not in sent.content.decode()
    Noting.refuses = set()
    sent = operator.client.post(path, WHY, content_type="application/json", headers=headers)
    assert (sent.status_code, taken) == (200, [one])


def steps(caller: Caller, **body: Any) -> list[dict[str, Any]]:
    """Do all steps; return their answers, that of the dry run first."""
    body |= WHY
    found = [caller.post("messages/replay", body)]
    while found[-1]["next"]:
        found.append(caller.post("messages/replay", body | {"step": found[-1]["next"]}))
    return found


def test_all_that_match_are_published_again_in_order(
    operator: Caller, taken: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Step by step; what is newer, or not published, is left alone. Each is written down."""
    monkeypatch.setattr(actions, "STEP", 2)
    wanted = emit(5)
    emit(2, key="b")
    publish()
    pending = emit(1)
    body = WHY | {"q": "key:a"}
    told = operator.post("messages/replay", body)
    assert (told["matching"], told["changed"], taken) == (5, 0, [])
    publish()
    emit(1)
    publish()

    changed = 0
    while told["next"]:
        told = operator.post("messages/replay", body | {"step": told["next"]})
        changed += told["changed"]

    assert taken == wanted + pending  # it was there, and is published by now
    assert changed == LogEntry.objects.count() == 6


def test_a_step_that_is_asked_for_twice_sends_nothing_more(
    operator: Caller, taken: list[str]
) -> None:
    """It is answered as the first time; of somebody else it is another one."""
    emit(3)
    publish()
    body = WHY | {"q": "key:a"}
    step = body | {"step": operator.post("messages/replay", body)["next"]}

    assert operator.post("messages/replay", step) == operator.post("messages/replay", step)
    assert len(taken) == 3
    other = Caller("other", *OPERATOR)
    assert other.post("messages/replay", step)["changed"] == 3


def test_many_stop_at_what_the_broker_does_not_take(operator: Caller, taken: list[str]) -> None:
    """What came before it is done, and the next step goes on there."""
    ids = emit(4)
    publish()
    Noting.refuses = {ids[2]}
    body = WHY | {"q": "key:a"}
    told = operator.post("messages/replay", body)
    told = operator.post("messages/replay", body | {"step": told["next"]})
    assert (told["changed"], told["left"], taken) == (2, 0, ids[:2])

    rest = body | {"step": told["next"]}
    assert operator.post("messages/replay", rest, status=502)["type"].endswith("#broker")
    Noting.refuses = set()
    assert operator.post("messages/replay", rest)["changed"] == 2
    assert taken == ids


def test_a_scope_holds(taken: list[str]) -> None:
    """A tenant has its own messages published again."""
    emit(2, key="tenant")
    [other] = emit(1, key="b")
    publish()
    with override_settings(OUTBOX_API={"SCOPE": "tests.kit.api.mine"}):
        tenant = Caller("tenant", *OPERATOR)
        assert steps(tenant, q="type:tests.counted")[-1]["changed"] == 2
        assert tenant.post(f"messages/{other}/replay", status=404)
    assert other not in taken
