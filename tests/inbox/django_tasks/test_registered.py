"""Only what was imported at the start is run: a message is never a reason to import anything."""

import json
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import django
import pytest
from django.db import transaction
from django.test import override_settings

import outbox
from inbox.checks import check_registered, check_tasks
from inbox.django_tasks import registered
from inbox.models import Receipt
from outbox.exceptions import ConfigurationError
from outbox.message.envelope import Envelope
from tests.inbox import task_functions as tasks
from tests.inbox.django_tasks.support import backend, payload_of, run_tasks
from tests.inbox.support import Queue, effects, make_queue, postgresql
from tests.kit.processes import run
from tests.kit.support import amqp_message
from tests.test_public_api import python

if django.VERSION >= (6, 0):
    from django.tasks import TaskResultStatus as Status
else:
    from django_tasks import TaskResultStatus as Status

pytestmark = pytest.mark.django_db(transaction=True)

HERE = "tests.inbox.task_functions"
MODULES = {
    "unittest.__main__": "unittest.__main__.main",  # ends the process that imports it
    "antigravity": "antigravity.webbrowser.open",
    "this": "this.s",
    "idlelib": "idlelib.idle.main",
    "xmlrpc.server": "xmlrpc.server.SimpleXMLRPCServer.serve_forever",
    "tests.inbox.unregistered": "tests.inbox.unregistered.act",
    "tests.inbox.unregistered.Holder": "tests.inbox.unregistered.Holder.act",
}
"""Modules that no worker has, and how a message may ask for them."""

OTHERS = [
    "",
    ".",
    "..add",
    "add",
    f"{HERE}.",
    f"{HERE}.gone",
    f"{HERE}.no_task",
    f"{HERE}.Holder.add",
    f"{HERE}.add.func",
    f"{HERE}.transaction.atomic",
    "os.system",
    "builtins.exec",
    "django.conf.settings",  # lazy
    "django.utils.translation.gettext",
    "outbox.celery.OutboxCelery",  # imported by whoever asks the module for it
    "inbox.tasks.OutboxBackend",
    "a" * 10_000,
    "é.\N{PILE OF POO}",
]

CODECS = ["mac_iceland", "cp1140", "tis_620"]


@pytest.fixture(autouse=True)
def _backend() -> Iterator[None]:
    with override_settings(TASKS={"default": backend()}):
        yield


@pytest.fixture
def queue(broker_url: str) -> Iterator[Queue]:
    found = make_queue(broker_url)
    yield found
    found.delete()


def send(*paths: str) -> None:
    with transaction.atomic():
        for path in paths:
            outbox.emit("django.task.default", payload_of(path))


@pytest.mark.slow
@postgresql
@pytest.mark.parametrize("way", ["consumer", "relay"])
def test_a_message_imports_nothing(
    way: str, queue: Queue, database_url: str, tmp_path: Path
) -> None:
    """Whatever path it names: by the modules of the process that runs it, and by what they leave
    behind.
    """
    trace = tmp_path / "trace"
    setting = {"default": backend(GROUP=queue.name, MODULES=[HERE])}
    environment = {
        "DATABASE_URL": database_url,
        "BROKER_URL": queue.url if way == "consumer" else "",
        "TEST_EXCHANGE": queue.exchange,
        "TEST_TASKS_OF_DJANGO": json.dumps(setting),
        "TEST_TRACE": str(trace),
        "BROWSER": f"touch {trace}",
    }
    names = [*MODULES, *(f"encodings.{name}" for name in CODECS), HERE]
    with override_settings(TASKS=setting):
        queue.declare()
        send(*MODULES.values(), *OTHERS)
        if way == "consumer":
            queue.publish_raw(*[(_encoded(name), "tasks.project.default") for name in CODECS])
        result = tasks.imported.enqueue(names)
        code, output = run("relay", "--until-empty", **environment)
        assert code == 0, output
        if way == "consumer":
            code, output = run("consume", "--group", queue.name, "--until-empty", **environment)
            assert code == 1, output  # something has failed

        result.refresh()

    assert result.status == Status.SUCCESSFUL, output
    assert result.return_value == [HERE]
    assert not trace.exists()
    assert effects() == []
    dead = Receipt.objects.exclude(state="processed")
    assert set(dead.values_list("state", flat=True)) == {"dead"}
    encoded = len(CODECS) if way == "consumer" else 0
    assert dead.count() == len(MODULES) + len(OTHERS) + encoded


def _encoded(codec: str) -> Any:
    """A task whose body has an encoding, by what AMQP and MIME have for that."""
    message = amqp_message(
        Envelope(
            id=str(uuid.uuid4()),
            source="/elsewhere",
            type="django.task.default",
            data=json.dumps(payload_of("nowhere.at.all")).encode(),
            content_type=f"application/json; charset={codec}",
        )
    )
    message.properties["content_encoding"] = codec
    return message


def test_it_is_said_how_to_register_a_task() -> None:
    """In the receipt, and so in the result."""
    send("tests.inbox.unregistered.act")
    run_tasks()

    error = Receipt.objects.get().error
    assert "there is no tests.inbox.unregistered.act here, which /project has enqueued" in error
    assert "the module tasks of each app in INSTALLED_APPS" in error
    assert "TASKS['default']['OPTIONS']['MODULES']" in error


PROGRAM = """
import sys
from django.conf import settings
settings.configure(
    INSTALLED_APPS=["outbox", "relay", "inbox", "tests.testapp"],
    DATABASES={{"default": {{"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}}}},
    OUTBOX={{"SOURCE": "/project"}},
    TASKS={{"default": {{"BACKEND": "inbox.tasks.OutboxBackend", "OPTIONS": {options}}}}},
)
import django
django.setup()
from inbox.django_tasks import registered
{then}
"""


def in_a_process(then: str, options: str = "{}") -> str:
    return python(PROGRAM.format(options=options, then=then), DJANGO_SETTINGS_MODULE="")


@pytest.mark.slow
def test_tasks_of_apps_are_imported_at_the_start() -> None:
    """By django.setup() alone, in every process that may run or enqueue one."""
    printed = in_a_process("print('tests.testapp.tasks' in sys.modules)")

    assert printed.split() == ["True"]


@pytest.mark.slow
def test_other_modules_are_named_in_a_setting() -> None:
    printed = in_a_process(
        "print(registered.look_up('tests.inbox.task_functions.add').name)",
        options=f"{{'MODULES': ['{HERE}']}}",
    )

    assert printed.split() == ["add"]


@pytest.mark.parametrize(
    ("modules", "told"),
    [
        (["tests.inbox.no_such"], "names 'tests.inbox.no_such', and there is no module"),
        (["nowhere.jobs"], "there is no module 'nowhere'"),
    ],
)
def test_a_module_that_does_not_exist_is_told_at_the_start(modules: list[str], told: str) -> None:
    """Like an app that does not exist."""
    with pytest.raises(ConfigurationError, match=told):
        registered.load(modules)


@pytest.mark.parametrize("modules", ["shop.jobs", [1], ["no module"], {"a": 1}])
def test_modules_are_a_list_of_names(modules: Any) -> None:
    with override_settings(TASKS={"default": backend(MODULES=modules)}):
        [error] = check_tasks()
    assert (error.id, "MODULES must be a list" in error.msg) == ("inbox.E003", True)


@pytest.mark.slow
def test_a_task_that_nobody_else_knows_is_told() -> None:
    """One in a module that was imported after the start, by the pages of a site say."""
    printed = in_a_process(
        """
from inbox.checks import check_registered
assert check_registered() == []
import tests.inbox.unregistered
[warning] = check_registered()
print(warning.id, warning.msg, warning.hint)
"""
    )

    assert printed.startswith("inbox.W050 The task tests.inbox.unregistered.act is in a module")
    assert "TASKS['default']['OPTIONS']['MODULES']" in printed


def test_without_a_backend_of_ours_there_is_nothing_to_tell() -> None:
    with override_settings(TASKS={}):
        assert check_registered() == []


def test_a_lazy_module_is_not_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    """To ask it for anything at all would run it."""
    import importlib.util  # noqa: PLC0415 - for this test alone

    spec = importlib.util.find_spec("this")
    assert spec is not None
    assert spec.loader is not None
    spec.loader = importlib.util.LazyLoader(spec.loader)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "this", module)
    spec.loader.exec_module(module)

    with pytest.raises(LookupError):
        registered.look_up("this.s")

    assert type(module).__name__ == "_LazyModule"
