"""The apps work in a project without the admin, as that of a relay may be."""

import subprocess
import sys

PROGRAM = """
import django
from django.conf import settings
from django.core.management import call_command

settings.configure(
    INSTALLED_APPS=["outbox", "relay", "inbox"],
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
    RELAYS={"default": {"BACKEND": "relay.brokers.local.LocalBroker"}},
    USE_TZ=True,
)
django.setup()
call_command("migrate", verbosity=0)
call_command("outbox_prune")
call_command("relay", "--once")
"""


def test_they_start_and_prune_without_it() -> None:
    """Whatever is written down where the admin writes is imported only with it."""
    command = [sys.executable, "-c", PROGRAM]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)

    assert done.returncode == 0, done.stderr
    assert "failure notes: 0 deleted" in done.stdout
