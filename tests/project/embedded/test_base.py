"""The database backend for Django."""

import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.fixture
def python(tmp_path: Path):
    """Run a statement in a Django process that is configured for the embedded server."""

    def run(code: str) -> str:
        env = {
            **os.environ,
            "DJANGO_SETTINGS_MODULE": "project.settings",
            "EMBEDDED_PGDATA": str(tmp_path / "pg"),
        }
        env.pop("DATABASE_URL", None)
        env["PATH"] = ""  # no PostgreSQL that happens to be installed
        command = [sys.executable, "-c", f"import django; django.setup()\n{code}"]
        return subprocess.run(
            command, env=env, check=True, capture_output=True, text=True
        ).stdout.strip()

    return run


@pytest.mark.slow
def test_loading_starts_nothing(python, tmp_path: Path):
    """Checks, imports and the shell do not start a server; a connection does."""
    python(
        "from django.core.management import call_command\n"
        "from django.db import connection\n"
        "assert connection.vendor == 'postgresql'\n"
        "call_command('check')"
    )

    assert not (tmp_path / "pg").exists()


@pytest.mark.slow
def test_the_first_connection_starts_the_server(python, tmp_path: Path):
    """A query works without any preparation, and the process stops what it has started."""
    printed = python(
        "from django.db import connection\n"
        "with connection.cursor() as cursor:\n"
        "    cursor.execute('SHOW server_version')\n"
        "    print(cursor.fetchone()[0])"
    )

    assert printed.startswith("18.")
    assert not (tmp_path / "pg" / "postmaster.pid").exists()


@pytest.mark.slow
def test_dbshell_uses_the_psql_of_the_wheel(python):
    """The interactive shell needs no installed PostgreSQL either."""
    printed = python(
        "from django.core.management import call_command\n"
        "call_command('dbshell', '--', '-Atc', 'SELECT 6 * 7')"
    )

    assert printed == "42"
