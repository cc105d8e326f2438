"""Processes that send tasks and have not set up Django: what Celery sends, goes."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.kit.processes import ROOT, Process
from tests.outbox.celery.script import APP, Script

SEND = {
    "delay": "add.delay(1, 2)",
    "send_task": "app.send_task('script.add', (1, 2))",
    "signature": "add.s(1, 2).delay()",
    "group": "from celery import group; group([add.s(1, 2)]).delay()",
    "chain": "from celery import chain; chain(add.s(1, 2), add.s(3))()",
    "outbox=False": "add.apply_async((1, 2), outbox=False)",
}


@pytest.mark.slow
@pytest.mark.parametrize("django", [True, False], ids=["settings", "no settings"])
def test_a_script_sends_as_with_celery(script: Script, django: bool) -> None:
    """Every way of it, without django.setup() and even without settings."""
    program = "\n".join(SEND.values())
    script.run(f"{program}\nadd.delay_on_commit(1, 2)" if django else program, django=django)
    expected = len(SEND) + django

    assert script.arrived() == [[1, 2]] * expected


TOLD = {
    "error": ("TransactionRequired", "OUTBOX['CELERY_OUTSIDE'] makes an error; and Django is not"),
    "own": ("ConfigurationError", "OUTBOX['CELERY_OUTSIDE'] is 'own', and Django is not set up"),
}


@pytest.mark.slow
@pytest.mark.parametrize("outside", TOLD)
def test_what_needs_the_outbox_says_that_django_is_not_set_up(script: Script, outside: str) -> None:
    """Instead of what Django says of its registry; and what may go, goes."""
    program = f"""
import outbox
for send in {[text for name, text in SEND.items() if name != "outbox=False"]!r}:
    try:
        exec(send)
    except outbox.OutboxError as exc:
        print(type(exc).__name__, exc)
add.apply_async((3,), outbox=False)
with app.producer_or_acquire(app.amqp.Producer(app.connection_for_write())) as producer:
    add.apply_async((4,), producer=producer)
"""
    printed = script.run(program, outside).splitlines()

    kind, words = TOLD[outside]
    assert len(printed) == len(SEND) - 1
    assert all(line.startswith(f"{kind} ") and words in line for line in printed), printed
    assert all("call django.setup() first" in line for line in printed)
    assert script.arrived() == [[3], [4]]


@pytest.mark.slow
def test_no_task_leaves_a_transaction_unnoticed(script: Script) -> None:
    """Who uses the database alone, and has no apps, is not told that the task commits with it."""
    program = """
import warnings
from django.db import transaction
import outbox
warnings.simplefilter("ignore", RuntimeWarning)  # Django's, of the database before its setup
with transaction.atomic(using="other"):
    try:
        add.delay(1)
    except outbox.ConfigurationError as exc:
        print(exc)
"""
    printed = script.run(program)

    assert "sent in a transaction, and Django is not set up" in printed
    assert script.arrived() == []


def celery(*arguments: str, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "celery", "-A", APP, *arguments],
        cwd=ROOT,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_the_celery_command_sends(script: Script) -> None:
    """`celery call`, as it comes, and with arguments for a task that it knows."""
    celery("call", "script.add", "--args", "[7]", **script.environment())

    assert script.arrived() == [[7]]


@pytest.mark.slow
@pytest.mark.parametrize("outside", ["direct", "own", "error"])
def test_beat_sends(script: Script, outside: str, tmp_path: Path) -> None:
    """Whatever is said of tasks outside of transactions: beat has a producer of its own."""

    class Beat(Process):
        program = ("-m", "celery", "-A", APP, "beat")

    environment = script.environment(outside) | {
        "SCRIPT_SCHEDULE": str(tmp_path / "schedule"),
        "DATABASE_URL": "sqlite:///:memory:",
    }
    arrived: list[Any] = []
    take: Callable[[], list[Any]] = script.arrived
    with Beat("--pidfile", str(tmp_path / "pid"), **environment) as beat:
        beat.wait_for(lambda: arrived.extend(take()) or len(arrived) >= 2)

    assert arrived[0] == [5]
