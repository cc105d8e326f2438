"""What the demo prints."""

import io
from dataclasses import replace

import pytest

from project.demo.display import PlainDisplay, RichDisplay, choose
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
