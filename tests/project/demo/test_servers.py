"""Servers that the demo cannot use are told in one sentence before anything starts."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("variables", "told"),
    [
        (
            {"DATABASE_URL": "postgresql://u:hunter2@127.0.0.1:1/x"},
            "The server of DATABASE_URL cannot be used: connection failed: ",
        ),
        (
            {"DATABASE_URL": "sqlite://:memory:", "BROKER_URL": "amqp://u:hunter2@127.0.0.1:1//"},
            "The server of BROKER_URL cannot be used (amqp://127.0.0.1:1//): ",
        ),
        ({"DATABASE_URL": "mysql://u:hunter2@host/x"}, "DATABASE_URL begins with 'mysql'"),
    ],
    ids=str,
)
def test_a_server_that_cannot_be_used_is_one_sentence(variables: dict[str, str], told: str) -> None:
    """No traceback, no secret, exit 1."""
    defaults = {"BROKER_URL": "", "DJANGO_SETTINGS_MODULE": "project.settings"}
    done = subprocess.run(
        [sys.executable, "manage.py", "demo", "--json"],
        cwd=ROOT,
        env=os.environ | defaults | variables,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert done.returncode == 1
    assert told in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert done.stdout == ""
    assert "hunter2" not in done.stderr
