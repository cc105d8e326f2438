"""What the demo prints."""

import io
from dataclasses import replace

import pytest

from project.demo.display import PlainDisplay, RichDisplay, choose
from project.demo.findings import Book, Findings, Loss
from project.demo.reconcile import Report

pytestmark = pytest.mark.sqlite


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def report() -> Report:
    return Report(
        committed=10,
        rolled_back=2,
        undone=1,
        emitted=50,
        published=50,
        handled=48,
        duplicates_suppressed=0,
        lost=2,
        effects_twice=0,
        order_violations=0,
        missing={"shop.order.paid is not handled by billing.account": 2},
    )


def test_a_pipe_gets_plain_lines(report):
    """Without a terminal there are no colours and no bars; progress is not shown."""
    stream = io.StringIO()
    display = choose(stream)
    display.say("Something happened.")
    display.progress(report, 12)
    display.finish(report)

    assert isinstance(display, PlainDisplay)
    assert "\x1b" not in stream.getvalue()
    assert stream.getvalue().startswith("Something happened.\n\norders committed")


@pytest.mark.parametrize("stream", [io.StringIO(), Terminal()], ids=["pipe", "terminal"])
def test_a_broken_promise_is_said_loudly(stream, report):
    """Both displays end with what is missing."""
    display = choose(stream)
    display.finish(report)

    assert "A PROMISE WAS BROKEN" in stream.getvalue()
    assert "2: shop.order.paid is not handled by billing.account" in stream.getvalue()


def test_a_terminal_gets_bars(report):
    """On a terminal the bars show how many orders and events are done."""
    stream = Terminal()
    display = choose(stream)
    display.progress(report, 12)
    display.close()

    assert isinstance(display, RichDisplay)
    assert "12/12" in stream.getvalue()
    assert "48/50" in stream.getvalue()


@pytest.mark.parametrize("count", [0, 3])
def test_duplicates_are_shown_where_there_are_any(report, count):
    """Where none can be, with the local broker, a zero would only make the reader wonder."""
    stream = io.StringIO()
    choose(stream).finish(replace(report, duplicates_suppressed=count))

    assert ("delivered again by the broker" in stream.getvalue()) is bool(count)


@pytest.mark.parametrize("stream", [io.StringIO(), Terminal()], ids=["pipe", "terminal"])
def test_what_was_found_is_shown_in_tables(stream, report):
    """Asked, acknowledged, lost on purpose, and how the services reconcile."""
    loss = Loss("shop", "billing", "missing", "1")
    line = Book(
        sender="shop",
        group="billing",
        compared=1234,
        agrees=False,
        breaks={"missing": 1},
        repaired=0,
        accepted=0,
        open=frozenset([loss]),
    )
    findings = Findings(
        asked={"poll": {"answered": 8, "declined": 1, "expired": 1}},
        asked_total=10,
        orders=93,
        acknowledged={"billing": {"handled": 93}},
        planted={"stolen": frozenset([loss])},
        found=(line,),
    )
    kept = replace(report, lost=0, missing={})
    choose(stream).finish(kept, findings)

    said = stream.getvalue()
    for text in ("Asked", "Acknowledged", "Lost on purpose", "1,234", "a stranger took messages"):
        assert text in said
    assert "Every promise was kept. What was lost on purpose was found" in said.replace("\n", " ")
    choose(stream).finish(kept, replace(findings, found=()))
    assert "1 losses were not found" in stream.getvalue()
