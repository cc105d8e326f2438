"""The documentation says what the code does."""

import dataclasses
import re
import sys
from decimal import Decimal
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import django
import pytest
from django.core.management import call_command
from django.test import override_settings

import outbox
from inbox.conf import InboxSettings
from inbox.tasks.conf import TaskOptions
from outbox.conf import OutboxSettings
from outbox.models import Message
from outbox.registry import registry
from relay.brokers.amqp import AMQPOptions
from relay.conf import RelaySettings
from relay.parked import TRANSITIONS
from tests.support import Registered

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").rglob("*.md")]
PYTHON = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_somewhere(page: Path) -> None:
    """Relative links of a page name files that exist."""
    links = re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text())
    missing = [
        link for link in links if "://" not in link and not (page.parent / link).resolve().exists()
    ]

    assert not missing


@pytest.mark.parametrize(
    "settings",
    [OutboxSettings, RelaySettings, AMQPOptions, InboxSettings, TaskOptions],
    ids=lambda c: c.__name__,
)
def test_every_setting_is_documented(settings: type) -> None:
    """The reference names each key of each settings class."""
    page = (ROOT / "docs/reference/settings.md").read_text()

    assert [f.name for f in dataclasses.fields(settings) if f"`{f.name}`" not in page] == []


def test_every_system_check_is_documented_and_exists() -> None:
    """The ids in the reference are exactly those in the code."""
    code = "\n".join(
        path.read_text()
        for package in ("outbox", "relay", "inbox")
        for path in (ROOT / package).rglob("*.py")
    )
    pattern = r"((?:outbox|relay|inbox)\.[EW]\d{3})"
    documented = re.findall(rf"`{pattern}`", (ROOT / "docs/reference/checks.md").read_text())

    assert sorted(documented) == sorted(set(re.findall(rf'"{pattern}"', code)))


def test_every_finding_of_the_doctor_is_documented_and_exists() -> None:
    """The ids in the page on the doctor are exactly those that examiners use."""
    code = "\n".join(
        path.read_text()
        for package in ("outbox", "relay", "inbox")
        for path in (ROOT / package).rglob("*.py")
    )
    used = set(re.findall(r'id="((?:outbox|relay|inbox)\.[a-z_]+)"', code))
    used |= {f"{name}.unexamined" for name in ("outbox", "relay", "inbox")}
    page = (ROOT / "docs/how-to/doctor.md").read_text()
    documented = re.findall(r"`((?:outbox|relay|inbox)\.[a-z_]+)`", page)

    assert sorted(documented) == sorted(used)


def test_the_diagram_of_parked_messages_is_the_table() -> None:
    """The page shows exactly the transitions that the code has."""
    page = (ROOT / "docs/how-to/parked.md").read_text()
    lines = {
        f"{', '.join(transition.sources)} ──{verb.value}──▶ {transition.target}"
        for verb, transition in TRANSITIONS.items()
    }

    assert {line for line in page.splitlines() if "──▶" in line} == lines


@pytest.mark.django_db(transaction=True)
def test_the_examples_of_how_to_emit_run(registered: Registered) -> None:
    """Every block of docs/how-to/emit.md runs as it stands."""

    @dataclasses.dataclass
    class OrderPlaced:
        order_id: int
        total: Decimal

    registered("docs.order.placed", OrderPlaced, key="order_id")
    placed = []
    names = {
        "OrderPlaced": OrderPlaced,
        "dataclass": dataclasses.dataclass,
        "outbox": outbox,
        "total": Decimal("9.90"),
        "request": SimpleNamespace(headers={"X-Request-ID": "r-1"}),
        "order": SimpleNamespace(place=lambda: placed.append(outbox.current_context())),
    }
    blocks = PYTHON.findall((ROOT / "docs/how-to/emit.md").read_text())
    for block in blocks:
        # The example project has an event of the name that the page uses.
        exec(block.replace("shop.order.placed", "docs.order.placed"), names)
    registered.added.append(registry.named("shop.order.returned"))  # to be forgotten as well

    assert Message.objects.count() == 999
    assert [context.correlation_id for context in placed] == ["r-1"]


@pytest.mark.django_db(transaction=True)
def test_the_examples_of_djangos_tasks_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """The page's settings, tasks and calls work together, and results are what it says."""
    page = (ROOT / "docs/how-to/django-tasks.md").read_text()
    page = page.replace("from shop.models", "from project.shop.models")
    page = page.replace("from shop.tasks", "from docs_tasks")
    if django.VERSION < (6, 0):
        page = page.replace("from django.tasks", "from django_tasks")
    settings, functions, calls, results = PYTHON.findall(page)
    module = ModuleType("docs_tasks")
    monkeypatch.setitem(sys.modules, "docs_tasks", module)
    names: dict[str, Any] = {}
    exec(settings, names)

    with override_settings(TASKS=names["TASKS"]):
        exec(functions, vars(module))
        exec(calls, names)
        call_command("relay", "--until-empty", verbosity=0)
        exec(results, names)

        for line in results.splitlines()[1:]:
            expression, said = line.split("  # ")
            assert str(eval(expression, names)) == said.strip('"')
        names["order"].refresh_from_db()
        assert names["order"].reference == "closed"
