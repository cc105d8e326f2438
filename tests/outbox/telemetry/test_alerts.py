"""The alerts for Prometheus: they fire when they should, and know our names."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from outbox.extensions import gauges
from outbox.instruments import instruments
from tests.kit.processes import ROOT
from tests.kit.services.prometheus import promtool

ALERTS = ROOT / "outbox/telemetry/alerts.yml"
PAGE = ROOT / "docs/how-to/alert.md"

ELSEWHERE = {
    "relay.not_running": "OutboxStalled",
    "outbox.settings": "SettingsWrong",  # each has the id of a system check
    "outbox.unexamined": "Unexamined",
    "relay.unexamined": "Unexamined",
    "inbox.unexamined": "Unexamined",
}
"""Findings whose alert does not name them, and which one that is."""
WITHOUT = {
    "outbox.database": "SQLite is for development, and known to whoever chose it",
    "relay.progress": "is how all is well",
    "relay.retired": "nothing has to be done",
    "inbox.unhandled": "an event that nobody handles may be meant so",
}
"""Findings that no alert tells of, and why."""

PLACE = {"job": "outbox", "instance": "here"}
"""What Prometheus adds to what it has scraped."""


def rules() -> list[dict[str, Any]]:
    groups = yaml.safe_load(ALERTS.read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


@dataclass(frozen=True, slots=True)
class Case:
    """Series that make one alert fire, and what it says."""

    alert: str
    series: dict[str, str]
    labels: dict[str, str]
    summary: str


def series(name: str, values: str = "1+0x200", /, **labels: str) -> dict[str, str]:
    """One series, a value each half minute."""
    inner = ", ".join(f'{key}="{value}"' for key, value in (PLACE | labels).items())
    return {f"{name}{{{inner}}}": values}


def found(alert: str, finding: str, level: str, summary: str) -> Case:
    """A case whose alert is made of nothing but the doctor's finding."""
    severity = {"error": "critical", "warning": "warning"}[level]
    labels = {"id": finding, "level": level, "finding": finding, "severity": severity}
    return Case(alert, series("outbox_finding", id=finding, level=level), PLACE | labels, summary)


def handled(outcome: str, values: str, handler: str = "billing.charge") -> dict[str, str]:
    """How often something became of what a handler was called for."""
    return series("inbox_handled_total", values, handler=handler, outcome=outcome)


def critical(within: str, every: str) -> dict[str, str]:
    """How many messages were handled within a minute, and of how many."""
    labels = {"handler": "billing.charge"}
    return series("inbox_critical_seconds_bucket", within, **labels, le="60.0") | series(
        "inbox_critical_seconds_count", every, **labels
    )


MINE_HANDLER = {"job": "outbox", "handler": "billing.charge"}
MINE = {"relay": "default", "lane": "0"}
BROKER = "A broker does not answer, or does not let us in."
EXCHANGE = "The exchange to publish to is missing, or may not be used."
LOG = "The log was moved, or cannot be read as it stands. Relays publish nothing."
UNANSWERED = "Requests are not answered in time."
UNACKNOWLEDGED = "A group does not acknowledge what was sent to it."
BREAKS = "A group has not what was sent to it, or does not say what it has."
QUEUE = "A group's queue is missing, cannot be used, or nobody consumes it."
LEFT = "A queue fills, and nobody reads it any more."
SHARED = "Another service seems to have our SOURCE, or to read our queue."
PINNED = "A transaction or a replication slot holds vacuum back; dead rows stay on disk."

CASES = [
    Case(
        "OutboxStalled",
        series("relay_oldest_pending_seconds", "90+0x200", **MINE)
        | series("relay_checkpoint_age_seconds", "3600+30x200", **MINE),
        PLACE | {"relay": "default", "severity": "critical", "finding": "relay.stalled"},
        "Relay default publishes nothing: the oldest message has waited for 1m 30s.",
    ),
    Case(  # it has never published anything
        "OutboxStalled",
        series("relay_oldest_pending_seconds", "90+0x200", **MINE),
        PLACE | {"relay": "default", "severity": "critical", "finding": "relay.stalled"},
        "Relay default publishes nothing: the oldest message has waited for 1m 30s.",
    ),
    Case(  # it moves
        "RelayBehind",
        series("relay_oldest_pending_seconds", "600+0x200", **MINE)
        | series("relay_checkpoint_age_seconds", "1+0x200", **MINE),
        PLACE | {"relay": "default", "severity": "warning", "finding": "relay.behind"},
        "Events of relay default are late: the oldest has waited for 10m 0s.",
    ),
    Case(
        "KeyParked",
        series("relay_parked_messages", "2+0x200", **MINE, state="parked")
        | series("relay_parked_messages", "3+0x200", relay="default", lane="1", state="parked"),
        PLACE
        | {"relay": "default", "state": "parked", "severity": "warning", "finding": "relay.parked"},
        "The broker refuses 5 messages of relay default; their keys wait.",
    ),
    Case(
        "DeadMessages",
        series("relay_parked_messages", "2+0x200", **MINE, state="dead"),
        PLACE
        | {"relay": "default", "state": "dead", "severity": "critical", "finding": "relay.dead"},
        "2 messages of relay default were refused too often; nobody tries them again, and their "
        "keys wait.",
    ),
    Case(
        "ScheduledLate",
        series("outbox_scheduled_late_seconds", "60+0x200"),
        PLACE | {"severity": "warning", "finding": "outbox.scheduled"},
        "A scheduled message is 1m 0s late.",
    ),
    Case(
        "DeadReceipts",
        series("inbox_open_receipts", "4+0x200", handler="billing.charge", state="dead"),
        PLACE
        | {"handler": "billing.charge", "state": "dead"}
        | {"severity": "warning", "finding": "inbox.receipts"},
        "Handler billing.charge could not handle 4 messages; they are dead.",
    ),
    Case(
        "DeadLetters",
        series("inbox_dead_letters", "3+0x200", reason="unknown_type"),
        PLACE | {"reason": "unknown_type", "severity": "warning", "finding": "inbox.dead"},
        "3 dead letters wait for a person: unknown_type.",
    ),
    Case(
        "RetriesOverdue",
        series("inbox_overdue_seconds", "120+0x200"),
        PLACE | {"severity": "warning", "finding": "inbox.overdue"},
        "Nobody handles what has been due for 2m 0s.",
    ),
    Case(  # of 40 calls in ten minutes
        "HandlerMostlyFails",
        handled("processed", "0+0.5x200")
        | handled("retrying", "0+1x200")
        | handled("dead", "0+0.5x200"),
        MINE_HANDLER | {"severity": "warning", "finding": "inbox.failing"},
        "Handler billing.charge fails for 75% of what it is called for.",
    ),
    Case(  # since an hour and a half
        "HandledLate",
        critical("0+8x200", "0+10x200"),
        MINE_HANDLER | {"severity": "warning"},
        "20% of the messages of handler billing.charge were handled later than a minute after they "
        "were emitted.",
    ),
    Case(  # not by so much, but for hours
        "HandledLate",
        critical("0+9x200", "0+10x200"),
        MINE_HANDLER | {"severity": "warning"},
        "10% of the messages of handler billing.charge were handled later than a minute after they "
        "were emitted.",
    ),
    Case(  # the process does not answer
        "MetricsGone",
        series("outbox_scrape_ok", "1+0x10 stale", part="relay") | series("up", "0+0x200"),
        PLACE | {"severity": "critical"},
        "There are no metrics of the outbox any more. Nobody knows how it is.",
    ),
    Case(  # and is not even looked for, while there is another job
        "MetricsGone",
        series("outbox_scrape_ok", "1+0x10 stale", part="relay")
        | {'outbox_scrape_ok{job="other", instance="there", part="relay"}': "1+0x200"},
        {"job": "outbox", "severity": "critical"},
        "There are no metrics of the outbox any more. Nobody knows how it is.",
    ),
    Case(  # nor ever was
        "MetricsGone",
        {},
        {"severity": "critical"},
        "There are no metrics of the outbox any more. Nobody knows how it is.",
    ),
    Case(
        "ScrapeFailed",
        series("outbox_scrape_ok", "0+0x200", part="relay"),
        PLACE | {"part": "relay", "severity": "warning"},
        "The gauges of relay cannot be read.",
    ),
    found("BrokerAway", "relay.broker", "error", BROKER),
    found("BrokerAway", "inbox.broker", "error", BROKER),
    found("ExchangeUnusable", "relay.exchange", "error", EXCHANGE),
    found("ExchangeUnusable", "relay.exchange", "warning", EXCHANGE),
    found(
        "NobodyPublishes",
        "outbox.unread",
        "warning",
        "There are messages in the outbox, and no relay is configured.",
    ),
    found(
        "PeerSilent",
        "outbox.peer",
        "warning",
        "Another service does not tell its half of conversations.",
    ),
    found("LogUnusable", "relay.log", "error", LOG),
    found("LogUnusable", "relay.moved", "error", LOG),
    found(
        "HandlerFailing",
        "inbox.failing",
        "warning",
        "A handler keeps failing on the same messages; soon they are dead, or are already.",
    ),
    found(
        "HandlerGone",
        "inbox.gone",
        "warning",
        "Messages wait for a handler that is not in the code any more.",
    ),
    found("RequestsUnanswered", "outbox.unanswered", "warning", UNANSWERED),
    found("RequestsUnanswered", "inbox.unanswered", "warning", UNANSWERED),
    found("NotAcknowledged", "outbox.unacknowledged", "warning", UNACKNOWLEDGED),
    found("NotAcknowledged", "outbox.held", "warning", UNACKNOWLEDGED),
    found("ReconciliationBreaks", "outbox.breaks", "warning", BREAKS),
    found("ReconciliationBreaks", "outbox.statements", "warning", BREAKS),
    found("NoConsumer", "inbox.queue", "warning", QUEUE),
    found("NoConsumer", "inbox.queue", "error", QUEUE),
    found("QueueLeftBehind", "inbox.abandoned", "warning", LEFT),
    found("QueueLeftBehind", "inbox.unread", "warning", LEFT),
    found(
        "EventsMissing",
        "inbox.bindings",
        "warning",
        "A queue was lost, and with it what waited in it. It can be published again.",
    ),
    found("SourceShared", "inbox.source", "warning", SHARED),
    found("SourceShared", "inbox.strangers", "warning", SHARED),
    found(
        "RetentionBehind",
        "relay.retention",
        "warning",
        "Old messages are not deleted; the log grows.",
    ),
    found("XminPinned", "relay.pin", "warning", PINNED),
    found("XminPinned", "relay.prepared", "warning", PINNED),
    found("XminPinned", "relay.slot", "warning", PINNED),
    found(
        "TransactionOpen",
        "relay.emitter",
        "warning",
        "Transactions that have emitted stay open; what they emitted waits for their commit.",
    ),
    found(
        "ClockSkew",
        "outbox.clock",
        "warning",
        "The clocks of the database and of a machine differ by more than a second.",
    ),
    found("Unexamined", "inbox.unexamined", "error", "The doctor cannot examine inbox.unexamined."),
    found("SettingsWrong", "outbox.E003", "error", "A system check fails, outbox.E003."),
    found(
        "OtherFinding",
        "shop.stock",
        "warning",
        "An examiner of your own has found something, shop.stock.",
    ),
    found(
        "OtherFinding",
        "shop.stock",
        "error",
        "An examiner of your own has found something, shop.stock.",
    ),
]

WELL = {
    **series("up"),
    **series("outbox_scrape_ok", part="relay"),
    **series("outbox_log_bytes", "1000000+0x200"),
    **series("outbox_scheduled_messages", "50+0x200"),
    **series("outbox_scheduled_late_seconds", "0+0x200"),
    **series("relay_pending_messages", "20+0x200", **MINE),
    **series("relay_oldest_pending_seconds", "0.2+0x200", **MINE),
    **series("relay_checkpoint_age_seconds", "0.1+0x200", **MINE),
    # A lane that nobody has written to for a day.
    **series("relay_oldest_pending_seconds", "0+0x200", relay="default", lane="1"),
    **series("relay_checkpoint_age_seconds", "86400+30x200", relay="default", lane="1"),
    **series("relay_parked_messages", "0+0x200", **MINE, state="parked"),
    **series("relay_parked_messages", "0+0x200", **MINE, state="dead"),
    **series("inbox_open_receipts", "7+0x200", handler="billing.charge", state="retrying"),
    **series("inbox_open_receipts", "0+0x200", handler="billing.charge", state="dead"),
    **series("inbox_dead_letters", "0+0x200", reason="unknown_type"),
    **series("inbox_overdue_seconds", "0+0x200"),
    # A handler fails now and then; another one always, and is hardly ever called.
    **handled("processed", "0+50x200"),
    **handled("retrying", "0+10x200"),
    **handled("waiting", "0+500x200"),
    **handled("retrying", "0+0.5x200", "seldom.called"),
    # One message in a thousand is late; and once a few were, an hour ago.
    **critical("0+999x60 59999+1000x140", "0+1000x60 60100+1000x140"),
    # What is worth knowing, and no more.
    **series("outbox_finding", id="relay.retention", level="info"),
    **series("outbox_finding", id="inbox.bindings", level="info"),
    **series("outbox_finding", id="inbox.abandoned", level="info"),
    **series("outbox_finding", id="outbox.database", level="info"),
    **series("outbox_finding", id="shop.stock", level="info"),
    **series("outbox_finding", id="outbox.W020", level="warning"),
    # A relay that catches up for a moment, and a scrape that failed once.
    **series("relay_oldest_pending_seconds", "90 90 0+0x198", relay="default", lane="2"),
    **series("relay_checkpoint_age_seconds", "90 0 0+0x198", relay="default", lane="2"),
    **series("outbox_scrape_ok", "1+0x90 0 1+0x100", part="doctor"),
}
"""What no alert is for."""


@pytest.mark.usefixtures("prometheus")
class TestPromtool:
    """What Prometheus' own tool says."""

    def test_the_rules_are_sound(self) -> None:
        """Every expression and every template."""
        assert "SUCCESS" in promtool("check", "rules", str(ALERTS))

    @pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.alert}-{case.labels}")
    def test_an_alert_fires(self, case: Case, tmp_path: Path) -> None:
        """With the labels and the words that it should have."""
        everywhere = series("outbox_scrape_ok", part="outbox")
        if case.alert == "MetricsGone":
            everywhere = {}
        annotations = {"summary": case.summary, "runbook": f"{_page()}#{case.alert.lower()}"}
        expected = [{"exp_labels": case.labels, "exp_annotations": annotations}]
        _run(
            tmp_path,
            everywhere | case.series,
            alert_rule_test=[{"eval_time": "95m", "alertname": case.alert, "exp_alerts": expected}],
        )

    @pytest.mark.parametrize("minutes", [1, 2, 10, 50, 95])
    def test_where_all_is_well_there_is_none(self, minutes: int, tmp_path: Path) -> None:
        """Nor for what is only worth knowing, nor for what is over at once."""
        firing = {"expr": 'ALERTS{alertstate="firing"}', "eval_time": f"{minutes}m"}
        _run(tmp_path, WELL, promql_expr_test=[firing | {"exp_samples": []}])

    def test_a_wrong_expectation_is_noticed(self, tmp_path: Path) -> None:
        """Else the tests above would say nothing."""
        firing = {"expr": "outbox_scrape_ok", "eval_time": "1m", "exp_samples": []}
        with pytest.raises(AssertionError, match="FAILED"):
            _run(tmp_path, WELL, promql_expr_test=[firing])


def test_every_alert_is_tested() -> None:
    """The cases are complete."""
    assert {case.alert for case in CASES} == {rule["alert"] for rule in rules()}


def test_every_metric_of_a_rule_exists() -> None:
    """With the labels that are asked for."""
    known = {gauge.name: gauge.labels for meter in gauges.meters() for gauge in meter.gauges}
    known |= {each.name: each.labels for each in (gauges.OK, gauges.SECONDS)}
    for each in instruments():
        known[each.name] = tuple(each.labels)
        known[f"{each.name}_count"] = tuple(each.labels)
        known[f"{each.name}_bucket"] = (*each.labels, "le")
    for rule in rules():
        expression = rule["expr"]
        names = re.findall(r"\b(?:outbox|relay|inbox)_\w+", expression)
        assert names, rule
        assert set(names) <= set(known), rule
        labels = {label for name in names for label in known[name]} | {"job", "instance", "pod"}
        asked = re.findall(r"(\w+)(?:=|!=|=~|!~)\"", expression)
        for group in re.findall(r"(?:without|by|on) \(([^)]*)\)", expression):
            asked += group.split(", ")
        assert set(asked) <= labels, rule


def test_every_finding_has_an_alert_or_a_reason() -> None:
    """And each that an alert names is one of the doctor's."""
    every, named = set(_findings()), set(_named())
    assert named <= every
    assert set(ELSEWHERE) | set(WITHOUT) == every - named
    assert set(ELSEWHERE.values()) <= {rule["alert"] for rule in rules()}


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: rule["alert"])
def test_every_alert_is_explained(rule: dict[str, Any]) -> None:
    """A heading of the page is its runbook, and the page names the doctor's finding."""
    page, _, heading = rule["annotations"]["runbook"].partition("#")
    assert ROOT / page == PAGE
    headings = re.findall(r"^### (\w+)$", PAGE.read_text(), re.MULTILINE)
    assert rule["alert"] in headings
    assert heading == rule["alert"].lower()
    finding = rule["labels"].get("finding", "")
    if finding and "$" not in finding:
        section = PAGE.read_text().partition(f"### {rule['alert']}\n")[2].partition("\n#")[0]
        assert f"`{finding}`" in section


def _page() -> str:
    return str(PAGE.relative_to(ROOT))


def _run(directory: Path, input_series: dict[str, str], **tests: Any) -> None:
    """Let promtool evaluate the rules over some series."""
    found = [{"series": name, "values": values} for name, values in input_series.items()]
    file = directory / "test.yml"
    content = {"interval": "30s", "input_series": found, **tests}
    file.write_text(
        json.dumps({"rule_files": [str(ALERTS)], "evaluation_interval": "1m", "tests": [content]})
    )
    promtool("test", "rules", str(file))


def _findings() -> Iterator[str]:
    """The ids that examiners use, as the page on the doctor has them; a test compares it."""
    page = (ROOT / "docs/how-to/doctor.md").read_text()
    yield from re.findall(r"`((?:outbox|relay|inbox)\.[a-z_]+)`", page)


def _named() -> Iterator[str]:
    """The findings that alerts are about: by their label, or by what the expression chooses."""
    for rule in rules():
        chosen = re.findall(r'\bid=~?"([a-z_.|]+)"', rule["expr"])
        label = rule["labels"].get("finding", "")
        assert not chosen or label in ("{{ $labels.id }}", *chosen), rule
        yield from (name for each in chosen for name in each.split("|"))
        if label and "$" not in label:
            yield label
