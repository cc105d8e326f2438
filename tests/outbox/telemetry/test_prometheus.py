"""A real Prometheus scrapes a real process: numbers, board and alerts, from the rows on."""

import json
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
import yaml
from django.db import connection, transaction
from django.utils import timezone

import outbox
from outbox.models import Scheduled
from tests.kit.processes import ROOT, running
from tests.kit.services.prometheus import Prometheus
from tests.kit.support import Counted
from tests.kit.waiting import until

pytestmark = [
    pytest.mark.skipif(connection.vendor != "postgresql", reason="the process needs the database"),
    pytest.mark.django_db(transaction=True),
    pytest.mark.usefixtures("prometheus"),
]

ALERTS = ROOT / "outbox/telemetry/alerts.yml"
BOARD = ROOT / "outbox/telemetry/board.json"


@pytest.fixture
def impatient(tmp_path: Path) -> Path:
    """The alerts, but that they do not wait before they fire."""
    content = yaml.safe_load(ALERTS.read_text())
    for group in content["groups"]:
        for rule in group["rules"]:
            rule.pop("for", None)
    file = tmp_path / "alerts.yml"
    file.write_text(json.dumps(content))
    return file


@pytest.fixture
def server(impatient: Path, database_url: str) -> Iterator[Prometheus]:
    """A Prometheus that scrapes `manage.py metrics` of a database in which something waits."""
    relays = json.dumps({"default": {"BACKEND": "relay.brokers.local.LocalBroker", "URL": ""}})
    with transaction.atomic():
        for number in range(3):
            outbox.emit(Counted("k", number))
        outbox.emit(Counted("late", 1), delay=3600)
    Scheduled.objects.update(due_at=timezone.now() - timedelta(minutes=5))
    with running(
        "metrics", "--port", "0", DATABASE_URL=database_url, TEST_RELAYS=relays
    ) as process:
        process.wait_for(lambda: "Metrics at" in process.output)
        address = process.output.split("http://")[1].split("/")[0]
        found = Prometheus(
            {
                "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
                "rule_files": [str(impatient)],
                "scrape_configs": [
                    {"job_name": "outbox", "static_configs": [{"targets": [address]}]}
                ],
            }
        )
        try:
            yield found
            # All the time: what is scraped is sound.
            [target] = found.api("targets")["activeTargets"]
            assert (target["health"], target["lastError"]) == ("up", "")
        finally:
            found.close()


@pytest.mark.slow
def test_from_a_row_to_an_alert(server: Prometheus) -> None:
    """What waits is seen, every panel of the board has an answer, and the alert fires."""
    until(lambda: sum(value for _, value in server.query("relay_pending_messages")) == 3)
    until(lambda: "ScheduledLate" in server.firing())
    alert = server.firing()["ScheduledLate"]
    assert (alert["finding"], alert["severity"], alert["job"]) == (
        "outbox.scheduled",
        "warning",
        "outbox",
    )
    [(_, late)] = server.query("outbox_scheduled_late_seconds")
    assert 300 <= late < 400
    # The doctor tells the same, by the same id.
    until(lambda: server.query('outbox_finding{id="outbox.scheduled", level="warning"}'))
    until(lambda: "MetricsGone" not in server.firing())  # it may look before the first scrape

    panels = [each for each in json.loads(BOARD.read_text())["panels"] if "targets" in each]
    for panel in panels:
        [target] = panel["targets"]
        asked = target["expr"].replace("$job", ".*").replace("$__rate_interval", "1m")
        result = server.query(asked)
        # Of what has never been published there is no checkpoint, and so no age of it; and what
        # processes count is not there either.
        without = "checkpoint_age" in asked or "rate(" in asked
        assert result or without, panel["title"]


@pytest.mark.slow
def test_every_rule_is_healthy(server: Prometheus) -> None:
    """Each of them can be evaluated over what is really there."""
    until(lambda: server.query("outbox_scrape_ok"))

    def evaluated() -> list[dict[str, str]]:
        groups = server.api("rules")["groups"]
        return [rule for group in groups for rule in group["rules"]]

    until(lambda: all(each["health"] != "unknown" for each in evaluated()))
    assert {each["health"] for each in evaluated()} == {"ok"}
    assert len(evaluated()) == ALERTS.read_text().count("- alert:")
