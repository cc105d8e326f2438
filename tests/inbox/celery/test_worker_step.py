"""The step that consumes beside a Celery worker, as far as it needs no worker."""

import subprocess
import time
from types import SimpleNamespace
from typing import Any

import pytest

from inbox.celery import ConsumeStep
from inbox.celery.worker_step import Consuming


@pytest.fixture
def step() -> Any:
    return ConsumeStep(SimpleNamespace())


def test_nothing_is_started_once_the_worker_ends(step: Any) -> None:
    """A look that was due at that moment would start a consumer which nobody stops."""
    step._consuming = [Consuming(["group"])]
    step.close(SimpleNamespace())

    step._look(SimpleNamespace())

    assert step._running() == []


def test_what_was_started_in_that_moment_is_stopped(step: Any) -> None:
    """Without an event loop the timer has a thread of its own: it may be at it right then."""
    worker = SimpleNamespace()
    step._consuming = [Consuming(["group"])]
    step.close(worker)
    started = time.monotonic()
    with subprocess.Popen(["sleep", "60"]) as process:
        step._consuming[0].process = process

        step.stop(worker)

    assert time.monotonic() - started < 30


def test_a_consumer_is_asked_once(step: Any) -> None:
    """The second time would be an order to end at once, in the middle of a batch."""
    patient = "trap 'test -z $asked || exit 9; asked=1' TERM; echo; while ! test $asked; do :; done"
    worker = SimpleNamespace()
    with subprocess.Popen(["sh", "-c", patient], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        step._consuming = [Consuming(["group"], process)]
        step.close(worker)
        step.stop(worker)

    assert process.returncode == 0


def test_one_process_consumes_for_all_groups(step: Any) -> None:
    """What `celery inspect stats` shows names it for each of them."""
    with subprocess.Popen(["sleep", "60"]) as process:
        step._consuming = [Consuming(["a", "b"], process), Consuming(["a", "b"])]
        try:
            assert step.info(None) == {"inbox": {"a": [process.pid], "b": [process.pid]}}
        finally:
            process.kill()
