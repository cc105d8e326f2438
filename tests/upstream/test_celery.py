"""Celery's own integration tests, with every task sent through the outbox and published by a relay.

CELERY_SUITE=whole runs those as well that take a minute each and are about results, not sending.
"""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from outbox.message.celery_task import TASK_TYPE
from outbox.models import Message
from tests.kit.processes import running
from tests.kit.services.rabbitmq import RabbitNode
from tests.kit.services.redis import RedisServer
from tests.upstream.source import source
from tests.upstream.suite import run

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.foreign,
    pytest.mark.slow,
    pytest.mark.timeout(3600),
]

SUITES = ["test_tasks.py"]
WHOLE = [*SUITES, "test_group_chains.py"]
LONG = (
    "large",
    "error_cb",
    "test_error_propagates_from_chord",
    "test_nested_chord_header_link_error",
    "test_redis_subscribed_channels_leak",
)
"""Parts of the names of tests that take long: of chords, whose results Redis counts."""
NOT_RUN = (
    "test_tasks.py::test_tasks::test_revoked_by_headers_complex_canvas",
    "test_tasks.py::test_trace_log_arguments",
)
"""Tests that failed with plain Celery 5.7 as well, in the same surroundings: no word about ours."""
DIFFERENCES: dict[str, str] = {}


@pytest.fixture
def redis_server() -> Iterator[RedisServer]:
    server = RedisServer()
    yield server
    server.close()


def test_celerys_own_tests_pass(
    tmp_path: Path, database_url: str, rabbit_node: RabbitNode, redis_server: RedisServer
):
    """Whatever Celery says of tasks holds for ours, but for what is listed here."""
    shutil.copytree(source("celery") / "t", tmp_path / "t")
    whole = os.environ.get("CELERY_SUITE") == "whole"
    settings = {
        "DJANGO_SETTINGS_MODULE": "tests.upstream.celery_settings",
        "DATABASE_URL": database_url,
        "TEST_BROKER": rabbit_node.url,
    }
    with running("relay", **settings):
        ran = run(
            tmp_path,
            [f"t/integration/{name}" for name in (WHOLE if whole else SUITES)],
            *("-p", "no:django", "-p", "celery.contrib.pytest"),
            *("-p", "tests.upstream.celery_through_outbox"),
            *("--log-level=INFO", "-o", "python_classes=test_*", "-o", "markers=flaky"),
            *(f"--deselect=t/integration/{name}" for name in NOT_RUN),
            *(() if whole else ("-k", " and ".join(f"not {part}" for part in LONG))),
            timeout=3500,
            TEST_BACKEND=redis_server.url(),
            REDIS_HOST="127.0.0.1",
            REDIS_PORT=str(redis_server.port),
            C_FORCE_ROOT="1",  # root may run these tests
            **settings,
        )

    ran.compare(DIFFERENCES)
    assert Message.objects.filter(type=TASK_TYPE).count() > len(ran.passed)
