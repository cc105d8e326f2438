"""Django's own tests of its task framework, with the backend that Django ships replaced by ours."""

import shutil
from pathlib import Path

import django
import pytest

from tests.upstream.source import source
from tests.upstream.suite import run

pytestmark = pytest.mark.skipif(
    django.VERSION < (6, 0), reason="Django has tasks, and tests of them, from 6.0 on"
)

OURS = {
    "django.tasks.backends.immediate.ImmediateBackend": (
        "tests.upstream.immediate.ImmediateOutboxBackend"
    ),
    "from django.tasks.backends.immediate import ImmediateBackend": (
        "from tests.upstream.immediate import ImmediateOutboxBackend as ImmediateBackend"
    ),
    # A backend of ours knows its queues, since consumers must know them.
    '"QUEUES": []': '"QUEUES": ["default", "queue_1", "queue-2", "unknown_queue"]',
    # Tasks are rows: a test needs the database.
    "SimpleTestCase)": "TransactionTestCase)",
    "import SimpleTestCase": "import TransactionTestCase",
    "available_apps = []": "available_apps = None",
}
DIFFERENCES = {
    "ImmediateBackendTestCase.test_cannot_get_result": "ours keeps results",
    "ImmediateBackendTestCase.test_cannot_refresh_result": "ours keeps results",
    "ImmediateBackendTestCase.test_cannot_pass_run_after": "ours can run a task later",
    "ImmediateBackendTransactionTestCase.test_doesnt_wait_until_transaction_commit_by_default": (
        "that a task commits with the transaction, and runs after it, is what ours is for"
    ),
}


def test_djangos_own_tests_of_tasks_pass(tmp_path: Path):
    """Whatever Django says of a backend holds for ours, but for what is listed here."""
    suite = tmp_path / "tasks"
    shutil.copytree(source("django") / "tests" / "tasks", suite)
    for file in suite.glob("*.py"):
        text = file.read_text()
        for theirs, ours in OURS.items():
            text = text.replace(theirs, ours)
        file.write_text(text)

    ran = run(tmp_path, ["tasks"], "--ds=tests.upstream.django_settings", timeout=300)

    ran.compare(DIFFERENCES)
