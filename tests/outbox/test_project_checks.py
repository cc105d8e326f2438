"""What `manage.py check` says of whole projects, each in a process of its own."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.kit.processes import ROOT

pytestmark = pytest.mark.slow

APPS = "'outbox', 'relay', 'inbox'"
LOCAL = "{'default': {'BACKEND': 'relay.brokers.local.LocalBroker'}}"
CELERY = (
    "from outbox.celery import OutboxCelery\napp = OutboxCelery('bookshop', broker='amqp://h//')\n"
)
IMPORT = "from bookshop.celery import app as celery_app\n"

Check = Callable[..., str]


@pytest.fixture
def check(tmp_path: Path) -> Check:
    """Make a project of some files, and return what `check` prints of it."""

    def run(apps: str = APPS, more: str = "", **files: str) -> str:
        package = tmp_path / "bookshop"
        package.mkdir()
        settings = (
            f"SECRET_KEY = 'x'\nROOT_URLCONF = 'bookshop.urls'\nINSTALLED_APPS = [{apps}]\n"
            "USE_TZ = True\nOUTBOX = {'SOURCE': '/bookshop'}\n"
            f"RELAYS = {LOCAL}\n{more}\n"
            "DATABASES = {'default': {'ENGINE': 'django.db.backends.sqlite3', 'NAME': ':memory:'}}"
        )
        for name, text in {"__init__": "", "urls": "urlpatterns = []", **files}.items():
            (package / f"{name}.py").write_text(text)
        (package / "settings.py").write_text(settings)
        found = subprocess.run(
            [sys.executable, "-m", "django", "check"],
            env=os.environ
            | {
                "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}",
                "DJANGO_SETTINGS_MODULE": "bookshop.settings",
            },
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        return found.stdout + found.stderr

    return run


def test_a_project_as_it_should_be(check: Check) -> None:
    """Nothing to say, with a Celery app that the package imports as well."""
    assert "no issues (0 silenced)" in check()


def test_the_checks_of_all_three_apps_are_run(check: Check) -> None:
    """Each app registers its own."""
    told = check(more="OUTBOX = INBOX = {'NOPE': 1}\nRELAYS = {'default': 1}")

    assert all(id in told for id in ("outbox.E001", "relay.E001", "inbox.E001")), told


def test_a_relay_that_nobody_configured(check: Check) -> None:
    """W001; a service that emits nothing says so with RELAYS = {}, or leaves the app out."""
    assert "relay.W001" in check(more="del RELAYS")


@pytest.mark.parametrize(
    ("apps", "more"),
    [
        (APPS, "RELAYS = {}"),
        ("'outbox', 'inbox'", "del RELAYS"),
        (
            "'outbox', 'relay'",
            "RELAYS['default']['BACKEND'] = 'relay.brokers.amqp.AMQPBroker'; "
            "RELAYS['default']['URL'] = 'amqp://h//'",
        ),
    ],
    ids=["consumer", "consumer without relay", "producer"],
)
def test_half_a_project(check: Check, apps: str, more: str) -> None:
    """A service may only consume, or only produce."""
    assert "no issues" in check(apps, more)


def test_the_local_broker_without_the_inbox(check: Check) -> None:
    """An error of the check, with what to do."""
    told = check("'outbox', 'relay'")

    assert "(relay.E002) RELAYS['default']: LocalBroker hands messages to the app 'inbox'" in told
    assert "add 'inbox' to INSTALLED_APPS" in told


@pytest.mark.parametrize("app", ["relay", "inbox"])
def test_without_the_outbox(check: Check, app: str) -> None:
    """The other two say that they stand on it, before anything else fails."""
    told = check(f"'{app}'")

    assert f"ConfigurationError: '{app}' is in INSTALLED_APPS without 'outbox'" in told
    assert "add 'outbox'" in told


class TestCelery:
    """E005."""

    def test_the_package_imports_the_app(self, check: Check) -> None:
        """Then it is Celery's current app, and only its broker has no relay."""
        told = check(celery=CELERY, __init__=IMPORT)

        assert "outbox.E005" not in told
        assert "relay.W003" in told

    def test_the_package_does_not_import_the_app(self, check: Check) -> None:
        """The error says which line to write, and where."""
        told = check(celery=CELERY)

        assert "(outbox.E005) bookshop.celery makes an OutboxCelery" in told
        assert "bookshop/__init__.py: from bookshop.celery import app" in told

    @pytest.mark.parametrize("text", ["# OutboxCelery(", "from celery import Celery", "def ("])
    def test_another_module_of_that_name(self, check: Check, text: str) -> None:
        """It is nobody's business."""
        assert "no issues" in check(celery=text)

    def test_another_app_is_the_current_one(self, check: Check) -> None:
        """The one that was made last; both are named."""
        told = check(celery=f"{CELERY}import celery\nc = celery.Celery('other')\n", __init__=IMPORT)

        assert "current app is 'other', not the OutboxCelery 'bookshop'" in told

    def test_another_app_beside_it(self, check: Check) -> None:
        """One that does not want to be the current app is no matter."""
        other = "import celery\nc = celery.Celery('other', set_as_current=False)\n"

        assert "outbox.E005" not in check(celery=CELERY + other, __init__=IMPORT)


def test_a_handler_that_nobody_can_call(check: Check) -> None:
    """What is wrong with a handler ends the check, with words."""
    told = check(
        f"{APPS}, 'bookshop'",
        handlers="import inbox\nclass A:\n    @inbox.handler('a.b')\n    def f(self, e): ...\n",
    )

    assert "ConfigurationError: Handler bookshop.f: bookshop.handlers.A.f is a method" in told
