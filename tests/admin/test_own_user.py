"""Whoever the users of a project are, its pages and the API know them."""

import os
import subprocess
import sys


def test_users_may_have_a_key_and_a_name_of_any_kind() -> None:
    """A program of its own, since a project has one kind of users."""
    environment = os.environ | {
        "DJANGO_SETTINGS_MODULE": "tests.own_user.settings",
        "DATABASE_URL": "sqlite://:memory:",
    }
    found = subprocess.run(
        [sys.executable, "-m", "tests.own_user.walk"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert found.stdout.endswith("well\n"), found.stderr[-3000:]
