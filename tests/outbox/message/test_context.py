"""The context: what a new event inherits."""

import asyncio
import threading
import uuid

import pytest
from django.db import transaction

import outbox
from outbox import Context, Envelope, current_context, use_context
from outbox.message.cloudevents import bounded


def test_empty():
    """Without anybody having said anything, there is nothing to inherit."""
    assert current_context() == Context()


def test_nesting():
    """An inner block changes what it names, keeps the rest, and ends with its block."""
    with use_context(correlation_id="flow", trace_state="a=1") as outer:
        with use_context(causation_id="parent", trace_state="b=2") as inner:
            assert current_context() is inner
            assert inner == Context(correlation_id="flow", causation_id="parent", trace_state="b=2")
        assert current_context() is outer
    assert current_context() == Context()


def test_replacing():
    """A whole context replaces the current one; changes go on top."""
    with (
        use_context(correlation_id="flow", causation_id="parent"),
        use_context(Context(correlation_id="other"), trace_parent="x") as chosen,
    ):
        assert chosen == Context(correlation_id="other", trace_parent="x")


def test_removing():
    """None takes away what the outer block had set."""
    with use_context(correlation_id="flow"), use_context(correlation_id=None):
        assert current_context().correlation_id is None


def test_exception():
    """The outer context is back also after an exception."""
    with pytest.raises(ZeroDivisionError), use_context(correlation_id="flow"):
        raise ZeroDivisionError
    assert current_context() == Context()


def test_unknown_field():
    """A misspelt field is an error, and changes nothing."""
    with pytest.raises(TypeError, match="corelation_id"), use_context(corelation_id="flow"):
        pass
    assert current_context() == Context()


@pytest.mark.parametrize("correlation", ["flow", None])
def test_caused_by(correlation: str | None):
    """Work that a message sets off is in its flow, or starts one that bears the message's id."""
    envelope = Envelope(
        "1", "/s", "t", b"", correlation_id=correlation, trace_parent="p", trace_state="s"
    )

    assert Context.caused_by(envelope) == Context(
        correlation_id=correlation or "1", causation_id="1", trace_parent="p", trace_state="s"
    )


def test_threads():
    """Another thread has a context of its own."""
    seen: list[Context] = []
    with use_context(correlation_id="flow"):
        thread = threading.Thread(target=lambda: seen.append(current_context()))
        thread.start()
        thread.join()

    assert seen == [Context()]


def test_tasks():
    """Tasks that run beside each other do not see each other's context."""

    async def work(name: str, others: asyncio.Barrier) -> str | None:
        with use_context(correlation_id=name):
            await others.wait()
            return current_context().correlation_id

    async def main() -> list[str | None]:
        others = asyncio.Barrier(2)
        return await asyncio.gather(work("a", others), work("b", others))

    assert asyncio.run(main()) == ["a", "b"]


def test_immutable():
    """A context can be shared: nobody can change it."""
    with pytest.raises(AttributeError):
        outbox.current_context().correlation_id = "x"


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("value", "carried"),
    [
        ("", None),
        ("x" * 300, "x" * 255),
        ("a\x00b", None),
        ("a\nb", None),
        ("\ud800", None),
        ("x" * 300 + "\ud800", "x" * 255),
        (b"bytes", None),
        (3.5, None),
        (True, None),
        (42, "42"),
        (uuid.UUID(int=1), str(uuid.UUID(int=1))),
    ],
)
@pytest.mark.parametrize("name", ["correlation_id", "causation_id"])
def test_what_no_message_can_carry(
    name: str, value: object, carried: str | None, caplog: pytest.LogCaptureFixture
):
    """Ids from outside are cut or left out, with a warning; nobody is kept from emitting."""
    with use_context(**{name: value}), transaction.atomic():
        assert getattr(current_context(), name) == carried
        envelope = outbox.emit("tests.plain", {})
    found = getattr(envelope, name)

    assert found == (carried or (envelope.id if name == "correlation_id" else None))
    assert (name in caplog.text) == (not isinstance(value, int | uuid.UUID) or value is True)


@pytest.mark.django_db
@pytest.mark.parametrize(("name", "limit"), [("trace_parent", 255), ("trace_state", 1024)])
def test_a_trace_is_never_cut(name: str, limit: int):
    """A part of it would mean something else."""
    for value, carried in (("x" * limit, "x" * limit), ("x" * (limit + 1), None), ("\0", None)):
        with use_context(**{name: value}), transaction.atomic():
            assert getattr(outbox.emit("tests.plain", {}), name) == carried


@pytest.mark.django_db
def test_a_parent_of_another_system():
    """What a handler emits does not fail for ids that are larger than ours may be."""
    parent = Envelope("x" * 300, "/s", "t", b"", correlation_id="\x01", trace_parent="y" * 999)
    with use_context(Context.caused_by(parent)), transaction.atomic():
        envelope = outbox.emit("tests.plain", {})

    assert (envelope.causation_id, envelope.correlation_id) == (bounded("x" * 300), envelope.id)
    assert envelope.trace_parent is None
