"""A board for Grafana, made of the metrics that there are."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from outbox.extensions.gauges import Gauge
from outbox.instruments import Instrument, Kind

UID = "django-outbox-inbox"
_SOURCE = {"type": "prometheus", "uid": "${datasource}"}
_SINCE = "$__rate_interval"
# Of gauges, and of the processes that count.
_JOBS = 'label_values({__name__=~"outbox_scrape_ok|(outbox|relay|inbox)_.*_total"}, job)'
_WIDTH, _HEIGHT, _LOW = 24, 8, 4  # of Grafana's grid


Metric = Gauge | Instrument


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """A picture of one metric: which series of it (`where`), and put together `by` which labels.

    A gauge is shown as it is, a counter by the second; of a histogram the value that 95 of 100 do
    not exceed. A number (`stat`) is yellow and red from the values of `limits` on.
    """

    title: str
    metric: str
    by: tuple[str, ...] = ()
    together: str = "sum"
    where: str = ""
    unit: str = "short"
    kind: str = "timeseries"
    width: int = 8
    limits: tuple[float, ...] = ()

    def query(self, metric: Metric) -> str:
        """Return what Prometheus is asked."""
        where = ", ".join(filter(None, ('job=~"$job"', self.where)))
        if isinstance(metric, Gauge):
            return f"{self._together(*self.by)} ({metric.name}{{{where}}})"
        if metric.kind is Kind.COUNTER:
            return f"{self._together(*self.by)} (rate({metric.name}{{{where}}}[{_SINCE}]))"
        buckets = f"rate({metric.name}_bucket{{{where}}}[{_SINCE}])"
        return f"histogram_quantile(0.95, {self._together('le', *self.by)} ({buckets}))"

    def _together(self, *labels: str) -> str:
        return f"{self.together} by ({', '.join(labels)})" if labels else self.together


ROWS: Mapping[str, tuple[Panel, ...]] = {
    "Flow": (
        Panel(
            title="Oldest message to publish",
            metric="relay_oldest_pending_seconds",
            together="max",
            unit="s",
            kind="stat",
            width=4,
            limits=(60, 300),
        ),
        Panel(
            title="Scheduled late",
            metric="outbox_scheduled_late_seconds",
            together="max",
            unit="s",
            kind="stat",
            width=4,
            limits=(10, 30),
        ),
        Panel(
            title="Retries overdue",
            metric="inbox_overdue_seconds",
            together="max",
            unit="s",
            kind="stat",
            width=4,
            limits=(60, 300),
        ),
        Panel(
            title="Dead with handlers",
            metric="inbox_open_receipts",
            where='state="dead"',
            kind="stat",
            width=4,
            limits=(1, 100),
        ),
        Panel(title="Dead letters", metric="inbox_dead_letters", kind="stat", width=4, limits=(1,)),
        Panel(
            title="Parked",
            metric="relay_parked_messages",
            kind="stat",
            width=4,
            limits=(1, 100),
        ),
        Panel(
            title="What the doctor finds",
            metric="outbox_finding",
            by=("level", "id"),
            together="max",
            kind="state-timeline",
            width=24,
        ),
    ),
    "Relay": (
        Panel(
            title="Age of the oldest message to publish",
            metric="relay_oldest_pending_seconds",
            by=("relay", "lane"),
            together="max",
            unit="s",
            width=12,
        ),
        Panel(
            title="Messages to publish",
            metric="relay_pending_messages",
            by=("relay", "lane"),
            together="max",
            width=12,
        ),
        Panel(
            title="Time since the last checkpoint",
            metric="relay_checkpoint_age_seconds",
            by=("relay", "lane"),
            together="min",
            unit="s",
            width=12,
        ),
        Panel(
            title="Parked, waiting or dead",
            metric="relay_parked_messages",
            by=("relay", "state"),
            width=12,
        ),
    ),
    "Inbox": (
        Panel(title="Open, by state", metric="inbox_open_receipts", by=("state",)),
        Panel(title="Open, by handler", metric="inbox_open_receipts", by=("handler", "state")),
        Panel(title="Dead letters, by reason", metric="inbox_dead_letters", by=("reason",)),
        Panel(
            title="How long a retry has been due",
            metric="inbox_overdue_seconds",
            together="max",
            unit="s",
        ),
        Panel(
            title="Messages that wait to be due", metric="outbox_scheduled_messages", together="max"
        ),
        Panel(
            title="How late a scheduled message is",
            metric="outbox_scheduled_late_seconds",
            together="max",
            unit="s",
        ),
    ),
    "Work": (
        Panel(
            title="Emitted, by type",
            metric="outbox_emitted_total",
            by=("type",),
            unit="ops",
        ),
        Panel(
            title="Published, by outcome",
            metric="relay_published_total",
            by=("relay", "outcome"),
            unit="ops",
        ),
        Panel(
            title="Received, by result",
            metric="inbox_received_total",
            by=("group", "result"),
            unit="ops",
        ),
        Panel(
            title="Handled, by outcome",
            metric="inbox_handled_total",
            by=("handler", "outcome"),
            unit="ops",
        ),
        Panel(
            title="A handler takes (95 %)",
            metric="inbox_handler_seconds",
            by=("handler",),
            unit="s",
        ),
        Panel(
            title="From emitted to handled (95 %)",
            metric="inbox_critical_seconds",
            by=("handler",),
            unit="s",
        ),
        Panel(
            title="From emitted to confirmed (95 %)",
            metric="relay_delivery_seconds",
            by=("relay",),
            unit="s",
        ),
        Panel(
            title="Publishing a page takes (95 %)",
            metric="relay_publish_seconds",
            by=("relay",),
            unit="s",
        ),
        Panel(title="A call of emit() takes (95 %)", metric="outbox_emit_seconds", unit="s"),
        Panel(
            title="Without broker or database",
            metric="outbox_outage_seconds_total",
            by=("process", "name", "what"),
            unit="percentunit",
            width=24,
        ),
    ),
    "Storage": (
        Panel(title="Size of the log", metric="outbox_log_bytes", together="max", unit="bytes"),
        Panel(
            title="Reading the gauges takes",
            metric="outbox_scrape_seconds",
            by=("part",),
            together="max",
            unit="s",
        ),
        Panel(
            title="What can be read",
            metric="outbox_scrape_ok",
            by=("part",),
            together="min",
            kind="state-timeline",
        ),
    ),
}


def board(metrics: Iterable[Metric]) -> dict[str, Any]:
    """Return a board of these metrics, as Grafana imports it.

    Those that ROWS does not know, as an app's own, are in a row of their own.
    """
    known = {each.name: each for each in metrics}
    return {
        "uid": UID,
        "title": "Outbox and inbox",
        "tags": ["django", "outbox", "inbox"],
        "schemaVersion": 39,
        "version": 1,
        "editable": True,
        "graphTooltip": 1,
        "refresh": "30s",
        "time": {"from": "now-6h", "to": "now"},
        "templating": {"list": _variables()},
        "panels": _numbered(_placed(_rows(known), known)),
    }


def _rows(known: Mapping[str, Metric]) -> Iterator[tuple[str, list[Panel]]]:
    shown = {panel.metric for panels in ROWS.values() for panel in panels}
    for title, panels in ROWS.items():
        yield title, [panel for panel in panels if panel.metric in known]
    yield (
        "Others",
        [
            Panel(title=name, metric=name, by=tuple(metric.labels), together="max")
            for name, metric in known.items()
            if name not in shown
        ],
    )


def _placed(
    rows: Iterable[tuple[str, list[Panel]]], known: Mapping[str, Metric]
) -> Iterator[dict[str, Any]]:
    """Put panels beside each other as long as there is room, and rows below each other."""
    top = 0
    for title, panels in rows:
        if not panels:
            continue
        yield {
            "type": "row",
            "title": title,
            "collapsed": False,
            "panels": [],
            "gridPos": {"h": 1, "w": _WIDTH, "x": 0, "y": top},
        }
        top += 1
        left, height = 0, 0
        for panel in panels:
            if left + panel.width > _WIDTH:
                top, left, height = top + height, 0, 0
            own = _LOW if panel.kind == "stat" else _HEIGHT
            place = {"h": own, "w": panel.width, "x": left, "y": top}
            yield _shown(panel, known[panel.metric]) | {"gridPos": place}
            left, height = left + panel.width, max(height, own)
        top += height


def _shown(panel: Panel, metric: Metric) -> dict[str, Any]:
    defaults: dict[str, Any] = {"unit": panel.unit, "min": 0}
    if panel.kind == "timeseries":
        defaults["custom"] = {"fillOpacity": 10, "showPoints": "never"}
    elif panel.limits:
        colours = ("green", "yellow", "red") if len(panel.limits) > 1 else ("green", "red")
        defaults["thresholds"] = {
            "mode": "absolute",
            "steps": [
                {"color": colour, "value": value}
                for colour, value in zip(colours, (None, *panel.limits), strict=True)
            ],
        }
    shown: dict[str, Any] = {
        "type": panel.kind,
        "title": panel.title,
        "description": f"{metric.name}: {metric.meaning}",
        "datasource": _SOURCE,
        "targets": [
            {
                "refId": "A",
                "datasource": _SOURCE,
                "expr": panel.query(metric),
                "legendFormat": " ".join(f"{{{{{label}}}}}" for label in panel.by) or panel.title,
            }
        ],
        "fieldConfig": {"defaults": defaults, "overrides": []},
    }
    if panel.kind == "stat":
        shown["options"] = {"reduceOptions": {"calcs": ["lastNotNull"]}, "graphMode": "area"}
    return shown


def _numbered(panels: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{"id": number, **panel} for number, panel in enumerate(panels, 1)]


def _variables() -> list[dict[str, Any]]:
    """Return what a reader chooses above the board: a Prometheus, and jobs of it."""
    return [
        {"name": "datasource", "label": "Prometheus", "type": "datasource", "query": "prometheus"},
        {
            "name": "job",
            "label": "Job",
            "type": "query",
            "datasource": _SOURCE,
            "definition": _JOBS,
            "query": {"query": _JOBS, "refId": "job"},
            "includeAll": True,
            "allValue": ".*",
            "multi": True,
            "refresh": 2,
            "current": {"selected": True, "text": ["All"], "value": ["$__all"]},
        },
    ]
