"""What a process says is checked when its class is made: each flaw is named, and what to do."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest
from django.db.models import TextChoices

from inbox.processes.declaring import Process, processes, upgrade
from inbox.processes.intents import Do
from inbox.processes.keys import MESSAGE_KEY, KeySource, key_text
from inbox.processes.marks import on, on_all, on_reply, on_timer
from inbox.processes.policies import Reject, Skip, Wait
from inbox.processes.steps import Step
from inbox.processes.table import Table, Transition, Trigger, TriggerKind
from outbox.exceptions import ConfigurationError, UndecodableMessage, UnknownEventType
from outbox.message.envelope import Envelope
from tests.inbox.processes.fulfilment import (
    Charge,
    Fulfilment,
    Invoiced,
    Placed,
    Refunded,
    Reserved,
    Taken,
)

Make = Callable[..., type[Process]]


class States(TextChoices):
    A = "a"
    B = "b"
    END = "end"


def nothing(self: object, event: object, do: object) -> None:
    """Stand for a method."""


START = on(Placed, starts=True, to=States.A)
FINISH = on(Invoiced, frm=(States.A, States.B), to=States.END)
BODY = {"start": START, "go": on(Reserved, to=States.B), "finish": FINISH}


@pytest.fixture
def make() -> Iterator[Make]:
    """Makes a process of methods and class attributes, for one test."""

    def make(name: str = "tests.made", **body: Any) -> type[Process]:
        options = {each: body.pop(each) for each in ("version", "group") if each in body}
        marked = {
            each: value(lambda self, event=None, do=None: None)
            if callable(value) and not isinstance(value, type)
            else value
            for each, value in body.items()
        }
        attributes = {"State": States, "final": (States.END,), **marked}
        return type("Made", (Process,), attributes, name=name, **options)  # type: ignore[call-overload,no-any-return]

    yield make
    processes.remove("tests.made")


def test_pairs(make: Make) -> None:
    """Without frm= a method is for all states that are not final, and the start is none."""
    made = make(start=START, go=on(Reserved, to=States.B), finish=FINISH)
    reserved = Trigger(TriggerKind.EVENT, "tests.stock.reserved", 1)
    placed = Trigger(TriggerKind.EVENT, "tests.order.placed", 1)
    assert made.table.find("a", reserved) is made.table.find("b", reserved) is not None
    assert made.table.find("end", reserved) is None
    assert made.table.find(None, reserved) is None
    assert made.table.find(None, placed) is not None
    assert made.table.find("a", placed) is None


@pytest.mark.parametrize(
    ("body", "flaw"),
    [
        ({"finish": FINISH}, "nothing starts it"),
        ({"start": on(Placed, starts=True), "finish": FINISH}, "start starts an instance, so it"),
        ({"start": START, "finish": on(Invoiced, frm="c", to=States.END)}, "no state 'c'"),
        ({"start": START, "finish": FINISH}, "no way leads to b"),
        (
            {**BODY, "finish": on(Invoiced, frm="a", to="end")},
            "no way leads from b to an end",
        ),
        (
            {"start": START, "go": on(Reserved, frm=("a", "end"), to="b"), "finish": FINISH},
            "go leads out of end, which is final",
        ),
        (
            {**BODY, "other": on(Reserved, frm="a", to="b")},
            "go and other are both for tests.stock.reserved v1 in state a",
        ),
        (
            {**BODY, "final": ("over",)},
            "no state 'over'",
        ),
        (
            {**BODY, "early": {Reserved: 5}},
            r"early says Wait\(\), Skip\(\) or Reject\(\) of an event, not 5",
        ),
        ({"State": dict, "start": START}, r"a class State\(TextChoices\) in its body"),
        ({"name": "two words", "start": START}, "Malformed name of a process"),
        ({"version": 0, "start": START}, "version is a whole number"),
        ({"group": "amq.x", "start": START}, "malformed group"),
        ({"Data": dict, "start": START}, "Data is a dataclass, a msgspec.Struct or"),
    ],
)  # fmt: skip
def test_flaws(make: Make, body: dict[str, Any], flaw: str) -> None:
    with pytest.raises(ConfigurationError, match=flaw):
        make(**body)
    assert processes.get("tests.made") is None


@pytest.mark.parametrize(
    ("mark", "flaw"),
    [
        (lambda: on("tests.order.placed"), "is for event classes"),  # type: ignore[arg-type]
        (lambda: on(Placed, key="number"), "key='number' is no attribute of Placed"),
        (lambda: on(Placed, key=5), "key is the name of a field"),  # type: ignore[arg-type]
        (lambda: on(Placed, alias="order", starts=True), "found by no alias"),
        (lambda: on(Placed, frm=5), "frm is a state"),  # type: ignore[arg-type]
        (lambda: on_all(Placed), "two or more events"),
        (lambda: on_all(Placed, Placed), "each of its own type"),
        (lambda: on_reply(Placed), "is no request"),
        (lambda: on_reply(Charge, Refunded), "Refunded is no reply of tests.charge"),
        (lambda: on_reply(Charge, "answered"), "'answered' is no end of a request without a reply"),
        (lambda: on_timer(""), "needs the name"),
        (lambda: upgrade(1, 3), "from a version to the next"),
        (lambda: Wait(timedelta(0)), "more than 0"),
    ],
)
def test_flaws_of_decorators(mark: Callable[[], object], flaw: str) -> None:
    with pytest.raises(ConfigurationError, match=flaw):
        mark()


def test_no_event() -> None:
    with pytest.raises(UnknownEventType):
        on(dict)


def test_two_of_one_name(make: Make) -> None:
    make(**BODY)
    with pytest.raises(ConfigurationError, match=r"Two processes are named 'tests\.made'"):

        class Other(Process, name="tests.made"):
            State = States
            final = (States.A, States.B, States.END)

            @on(Placed, starts=True, to=(States.A, States.B, States.END))
            def start(self, event: Placed, do: Do) -> str:
                return States.A


def test_policies() -> None:
    """Declared ones first: of a state, before or after its time; then to wait, or a person."""
    placed = Trigger(TriggerKind.EVENT, "placed", 1)
    paid = Trigger(TriggerKind.EVENT, "paid", 1)
    table = Table(
        process="tests.table",
        states=("open", "end"),
        final=frozenset({"end"}),
        transitions=(
            Transition(
                method="start",
                triggers=(placed,),
                sources=frozenset(),
                targets=("open",),
                starts=True,
            ),
            Transition(
                method="end", triggers=(paid,), sources=frozenset({"open"}), targets=("end",)
            ),
        ),
        early={paid: Wait(timedelta(minutes=1))},
        policies={("open", placed): Skip("twice")},
    )
    assert table.policy(None, paid) == Wait(timedelta(minutes=1))
    assert table.policy("open", placed) == Skip("twice")
    assert table.policy("end", paid) == Reject("it came after the end, in state end")
    assert list(table.undeclared()) == [("end", placed), ("end", paid)]


def test_a_reply_is_found_by_its_type_before_any_end() -> None:
    table = Fulfilment.table
    taken = Trigger(TriggerKind.REPLY, "tests.charge", end="tests.payment.taken")
    found = table.find("awaiting", taken)
    assert found is not None
    assert found.method == "paid"
    assert table.find("awaiting", taken._replace(end="expired")) is None


@pytest.mark.parametrize(
    ("value", "text"), [("a", "a"), (7, "7"), (None, None), ("", None), (1.5, None), (True, None)]
)
def test_keys(value: object, text: str | None) -> None:
    if text is None:
        with pytest.raises(UndecodableMessage, match="it has no key for process p"):
            key_text(value, of="process p")
    else:
        assert key_text(value, of="process p") == text


def test_a_key_that_cannot_be_kept() -> None:
    for value in ("a" * 201, "a\nb"):
        with pytest.raises(UndecodableMessage, match="printable"):
            key_text(value, of="process p")


def test_where_a_key_is() -> None:
    """In a field, in the message, or in what its cause said."""

    def envelope(**fields: Any) -> Envelope:
        return Envelope(id="1", source="tests", type="tests.order.placed", data=b"", **fields)

    event = Taken("p-1")
    own = {"processid": "tests.p/k-1"}
    assert KeySource(key="payment").of("tests.p", event, envelope(key="k")) == "p-1"
    assert KeySource(key=lambda each: each.payment).of("tests.p", event, envelope()) == "p-1"
    assert KeySource(key=MESSAGE_KEY).of("tests.p", event, envelope(key="k")) == "k"
    assert KeySource().of("tests.p", event, envelope(key="k", attributes=own)) == "k"
    assert KeySource().of("tests.p", event, envelope(attributes=own)) == "k-1"
    for attributes in (own, {"processid": 5}, {"processid": "tests.p"}, {}):
        with pytest.raises(UndecodableMessage):
            KeySource().of("tests.other", event, envelope(attributes=attributes))

    def fail(event: object) -> object:
        raise KeyError("x")

    with pytest.raises(UndecodableMessage, match="its key cannot be read: KeyError"):
        KeySource(key=fail).of("tests.p", event, envelope())


def test_upgrades(make: Make) -> None:
    """One version at a time; what the table lacks is an error that says what to do."""
    made = make(
        **BODY,
        Data=dataclass(type("Data", (), {"__annotations__": {"order_id": int, "note": str}})),
        version=3,
    )
    made.upgrades = {
        1: lambda state, data: ("b" if state == "begun" else state, {**data, "note": ""}),
        2: lambda state, data: (States.A if state == "b" else state, data),
    }
    old = Step(number=4, state="begun", version=1, data=b'{"order_id":1}')
    new = made.upgraded(old)
    assert (new.number, new.state, new.version) == (4, "a", 3)
    assert new.data == b'{"order_id":1,"note":""}'
    with pytest.raises(ConfigurationError, match="version 3 has no state 'gone'"):
        made.upgraded(Step(number=1, state="gone", version=2, data=b"{}"))
    with pytest.raises(ConfigurationError, match="A newer process has taken that step"):
        made.upgraded(Step(number=1, state="a", version=4, data=b"{}"))
