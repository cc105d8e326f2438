"""The board for Grafana: of gauges that exist, with queries that Prometheus can read."""

import json
import re
from io import StringIO
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from outbox.extensions import gauges
from outbox.extensions.gauges import Gauge
from outbox.instruments import instruments
from outbox.telemetry.board import ROWS, Metric, board
from tests.kit.processes import ROOT
from tests.kit.services.prometheus import promtool

COMMITTED = ROOT / "outbox/telemetry/board.json"


def every() -> list[Metric]:
    own = [gauge for meter in gauges.meters() for gauge in meter.gauges]
    return [*own, gauges.OK, gauges.SECONDS, *instruments()]


def made(*more: Gauge) -> list[dict[str, Any]]:
    found = board([*every(), *more])["panels"]
    assert isinstance(found, list)
    return found


def test_the_committed_board_is_up_to_date() -> None:
    """Make it with: manage.py metrics --board > outbox/telemetry/board.json."""
    out = StringIO()
    call_command("metrics", "--board", stdout=out)
    assert COMMITTED.read_text() == out.getvalue()
    assert json.loads(out.getvalue())["uid"] == "django-outbox-inbox"


def test_the_alerts_are_printed_as_they_are() -> None:
    """The file is part of the package."""
    out = StringIO()
    call_command("metrics", "--alerts", stdout=out)
    assert out.getvalue() == (ROOT / "outbox/telemetry/alerts.yml").read_text()


def test_one_thing_at_a_time() -> None:
    """A board is not served."""
    with pytest.raises(CommandError, match="not allowed with"):
        call_command("metrics", "--board", "--alerts")


def test_every_panel_shows_a_metric_that_exists() -> None:
    """And every metric is shown, by labels that it has."""
    known = {each.name: each for each in every()}
    panels = [panel for row in ROWS.values() for panel in row]
    assert {panel.metric for panel in panels} == set(known)
    for panel in panels:
        asked = re.findall(r"(\w+)=", panel.where)
        assert {*panel.by, *asked} <= set(known[panel.metric].labels), panel


def test_five_rows() -> None:
    """And no other, while an app has no gauges of its own."""
    rows = [panel["title"] for panel in made() if panel["type"] == "row"]
    assert rows == ["Flow", "Relay", "Inbox", "Work", "Storage"]


def test_gauges_of_ones_own_are_in_a_row_of_their_own() -> None:
    """So the board of a project shows all that it measures."""
    *_, row, own = made(Gauge("shop_open_orders", ("country",), "orders that are not placed yet"))
    assert (row["type"], row["title"]) == ("row", "Others")
    [target] = own["targets"]
    assert target["expr"] == 'max by (country) (shop_open_orders{job=~"$job"})'
    assert own["description"] == "shop_open_orders: orders that are not placed yet"


def test_what_is_not_installed_is_not_shown() -> None:
    """A service without the relay, say: an empty panel is a question."""
    ours = [each for each in every() if not each.name.startswith("relay")]
    titles = [panel["title"] for panel in board(ours)["panels"]]
    assert "Relay" not in titles
    assert "Oldest message to publish" not in titles
    assert "Scheduled late" in titles


def test_panels_do_not_cover_each_other() -> None:
    """Each has a number and a place of its own, and none reaches over the edge."""
    panels = made()
    assert len({panel["id"] for panel in panels}) == len(panels)
    cells = []
    for panel in panels:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        columns = range(place["x"], place["x"] + place["w"])
        lines = range(place["y"], place["y"] + place["h"])
        cells.append({(x, y) for x in columns for y in lines})
    assert all(not one & other for one, other in combinations(cells, 2))


@pytest.mark.usefixtures("prometheus")
def test_promtool_reads_every_query(tmp_path: Path) -> None:
    """Each as a rule that records it."""
    queries = [each["expr"] for panel in made() for each in panel.get("targets", ())]
    assert len(queries) > 15
    rules = [
        {"record": f"panel:{number}", "expr": _asked(query)} for number, query in enumerate(queries)
    ]
    file = tmp_path / "rules.yml"
    file.write_text(json.dumps({"groups": [{"name": "board", "rules": rules}]}))
    assert f"{len(queries)} rules found" in promtool("check", "rules", str(file))


def test_what_is_shown_of_each_kind() -> None:
    """A counter by the second, and of a histogram what 95 of 100 do not exceed."""
    queries = {
        panel["title"]: panel["targets"][0]["expr"] for panel in made() if "targets" in panel
    }
    where = '{job=~"$job"}[$__rate_interval]'
    buckets = f"rate(inbox_handler_seconds_bucket{where})"
    assert queries["Emitted, by type"] == f"sum by (type) (rate(outbox_emitted_total{where}))"
    assert queries["A handler takes (95 %)"] == (
        f"histogram_quantile(0.95, sum by (le, handler) ({buckets}))"
    )
    assert queries["A call of emit() takes (95 %)"] == (
        f"histogram_quantile(0.95, sum by (le) (rate(outbox_emit_seconds_bucket{where})))"
    )


def _asked(query: str) -> str:
    """Return a query as Grafana asks it."""
    return query.replace("$job", ".*").replace("$__rate_interval", "1m")
