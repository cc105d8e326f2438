"""What the page on monitoring says of counters; its view is tested with the others."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from django.db import connection

from outbox.conf import OutboxSettings, parse
from outbox.instruments import instruments
from tests.acceptance.test_docs import PYTHON, ROOT
from tests.kit.processes import running
from tests.kit.services.prometheus import ensure_installed, promtool

PAGE = (ROOT / "docs/how-to/monitor.md").read_text()
REFERENCE = (ROOT / "docs/reference/metrics.md").read_text()
_, COUNT, OPENTELEMETRY, PROVIDER, _ = PYTHON.findall(PAGE)


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("example", [COUNT, OPENTELEMETRY, PYTHON.findall(REFERENCE)[0]])
def test_the_settings(example: str) -> None:
    """They are settings that can be used."""
    names: dict[str, Any] = {}
    exec(example, names)
    assert parse(OutboxSettings, names["OUTBOX"], "OUTBOX").METRICS


@pytest.mark.slow
@pytest.mark.skipif(connection.vendor != "postgresql", reason="the process needs the database")
@pytest.mark.django_db(transaction=True)
def test_what_a_relay_says(database_url: str) -> None:
    """Where it answers, as the page has it."""
    [console] = [each for each in blocks("console") if "relay --health-port" in each]
    said = console.splitlines()[1]
    environ = {
        "DATABASE_URL": database_url,
        "BROKER_URL": "",
        "TEST_OUTBOX": json.dumps({"METRICS": ["prometheus"]}),
    }
    with running("relay", "--health-port", "0", **environ) as process:
        process.wait_for(lambda: "/metrics" in process.output)
        assert re.sub(r":\d+/", ":8090/", process.output.strip()) == said


@pytest.fixture
def prometheus() -> None:
    ensure_installed()


@pytest.mark.usefixtures("prometheus")
def test_the_configuration_and_queries(tmp_path: Path) -> None:
    """Prometheus reads them; the names are ours."""
    [config], [queries] = blocks("yaml"), blocks("promql")
    file = tmp_path / "prometheus.yml"
    file.write_text(config)
    assert "SUCCESS" in promtool("check", "config", str(file))
    assert [each["job_name"] for each in yaml.safe_load(config)["scrape_configs"]] == [
        "outbox",
        "relay",
        "inbox",
    ]
    rules = [
        {"record": f"query:{number}", "expr": query}
        for number, query in enumerate(queries.splitlines())
    ]
    assert len(rules) == 3
    file = tmp_path / "rules.yml"
    file.write_text(json.dumps({"groups": [{"name": "page", "rules": rules}]}))
    promtool("check", "rules", str(file))
    known = {each.name for each in instruments()}
    used = re.findall(r"\b(?:relay|inbox|outbox)_\w+", queries)
    assert {name.removesuffix("_bucket") for name in used} <= known


PROGRAM = """
import django
django.setup()
{provider}
from outbox.producer.measuring import EMITTED
from outbox.instruments import add
add(EMITTED, ("a.b",), 3)
metrics.get_meter_provider().shutdown()
"""


@pytest.mark.slow
def test_the_provider() -> None:
    """What is counted is exported by what the project has set, though it was set later."""
    printed = subprocess.check_output(
        [sys.executable, "-c", PROGRAM.format(provider=PROVIDER)],
        cwd=ROOT,
        env={
            **os.environ,
            "DJANGO_SETTINGS_MODULE": "tests.settings",
            "DATABASE_URL": "sqlite://:memory:",
            "TEST_OUTBOX": json.dumps({"METRICS": ["opentelemetry"]}),
        },
        text=True,
        timeout=60,
    )
    exported = json.loads(printed)
    [resource] = exported["resource_metrics"]
    [scope] = resource["scope_metrics"]
    [metric] = scope["metrics"]
    assert metric["name"] == "outbox.emitted.messages"
    [point] = metric["data"]["data_points"]
    assert (point["value"], point["attributes"]) == (3, {"cloudevents.event_type": "a.b"})
