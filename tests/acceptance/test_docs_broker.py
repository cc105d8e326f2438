"""The page on brokers of one's own: its broker is written, tested by its test, and used."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command
from django.db import transaction
from django.test import override_settings

import outbox
from tests.acceptance.test_quickstart import ROOT, Newcomer
from tests.kit.services.redis import RedisServer
from tests.kit.support import Counted

PAGE = (ROOT / "docs/how-to/write-a-broker.md").read_text()
PASSWORD = "swordfish"


@pytest.fixture
def server() -> Iterator[RedisServer]:
    """A Redis that wants a password."""
    server = RedisServer()
    server.admin.acl_setuser(
        "shop", enabled=True, passwords=[f"+{PASSWORD}"], keys="*", commands=["+@all"]
    )
    yield server
    server.close()


@pytest.fixture
def project(tmp_path: Path, server: RedisServer) -> Path:
    """A directory with the files that the page shows."""
    newcomer = Newcomer(tmp_path, {})
    newcomer.write("# mysite/settings.py\n")
    for text in re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL):
        newcomer.write(text)
    return tmp_path


def conforms(project: Path, server: RedisServer) -> str:
    """Run the command of the page; return what it prints."""
    [command] = re.findall(r"^\$ pytest (.+)$", PAGE, re.MULTILINE)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-rs", "-p", "no:cacheprovider", command],
        cwd=project,
        env={
            **{k: v for k, v in os.environ.items() if not k.startswith(("DJANGO", "PYTEST"))},
            "PYTHONPATH": f"{project}{os.pathsep}{ROOT}",
            "REDIS_URL": server.url("shop", PASSWORD),
        },
        capture_output=True,
        text=True,
        timeout=100,
    )
    return done.stdout + done.stderr


@pytest.mark.slow
def test_the_broker_of_the_page_passes_the_suite(project: Path, server: RedisServer) -> None:
    """All of it, but for what it does not declare."""
    printed = conforms(project, server)

    assert re.search(r"\n10 passed, 2 skipped", printed), printed
    assert "StreamBroker does not declare durable" in printed
    assert "StreamBroker does not declare routable_check" in printed


MISTAKES = {
    "refused[message.key] = message.id": "pass",
    "{urlsplit(self._url).hostname}": "{urlsplit(self._url).netloc}",
    "if unknown := set(options)": "if unknown := set()",
    "    redis.exceptions.OutOfMemoryError,\n": "",
    '"content-type": message.content_type': '"content-type": "application/json"',
    "outcomes + [UNSENT] * (len(page) - len(outcomes))": "outcomes",
}


@pytest.mark.mutant
@pytest.mark.slow
@pytest.mark.parametrize("right", MISTAKES)
def test_a_mistake_in_it_is_found(right: str, project: Path, server: RedisServer) -> None:
    """Each line that the page needs is needed."""
    path = project / "shop/stream_broker.py"
    assert right in path.read_text()
    path.write_text(path.read_text().replace(right, MISTAKES[right]))

    assert " failed" in conforms(project, server)


@pytest.mark.slow
@pytest.mark.django_db(transaction=True)
def test_a_relay_publishes_by_it(
    project: Path, server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the settings of the page, events are entries of the stream."""
    monkeypatch.setenv("REDIS_URL", server.url("shop", PASSWORD))
    monkeypatch.syspath_prepend(str(project))
    for name in ("shop", "shop.stream_broker"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    names: dict[str, Any] = {"os": os}
    exec((project / "mysite/settings.py").read_text(), names)

    with override_settings(RELAYS=names["RELAYS"]):
        call_command("check", verbosity=0)
        with transaction.atomic():
            emitted = outbox.emit(Counted("a", 1))
        call_command("relay", "--until-empty", verbosity=0)

    entries: Any = server.admin.xrange("tests.counted")
    assert [fields[b"ce-id"].decode() for _, fields in entries] == [emitted.id]
