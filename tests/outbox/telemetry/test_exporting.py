"""What processes count, as Prometheus and OpenTelemetry get it."""

import os
import random
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from django.core.checks import run_checks
from django.db import transaction
from django.test import RequestFactory, override_settings
from opentelemetry.metrics import _internal as otel_internal
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.util._once import Once
from prometheus_client import CollectorRegistry, Histogram, generate_latest

import outbox
from outbox import instruments
from outbox.instruments import Instrument, Kind, add, exporters, record, use
from outbox.telemetry import exporting
from outbox.telemetry.otel import MOST_VALUES, OpenTelemetry, some
from outbox.telemetry.prometheus import Prometheus
from outbox.telemetry.views import metrics_view
from tests.kit.processes import ROOT
from tests.kit.support import Counted
from tests.outbox.telemetry.test_exposition import parsed

DOORS = Instrument(
    name="doors_total",
    kind=Kind.COUNTER,
    labels={"colour": "outbox.colour"},
    meaning="doors that were opened",
    otel="outbox.doors",
    unit="{door}",
    constant={"house": "mine"},
    details=("error.type",),
)
WAITS = Instrument(
    name="waits_seconds",
    kind=Kind.HISTOGRAM,
    labels={"colour": "outbox.colour"},
    meaning="how long one waited",
    otel="outbox.waits",
)


@pytest.fixture(autouse=True)
def catalogue(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Nothing is there but what the test counts; and those that export go with it."""
    before = exporters()
    monkeypatch.setattr(instruments, "_instruments", {**instruments._instruments})
    instruments.declare(DOORS)
    instruments.declare(WAITS)
    monkeypatch.setattr(exporting, "_made", {})
    yield
    use(*before)


class TestPrometheus:
    """One process."""

    @pytest.fixture
    def exporter(self) -> Prometheus:
        made = Prometheus()
        use(made)
        return made

    def test_counters_and_histograms(self, exporter: Prometheus) -> None:
        """As Prometheus' own parser reads them; what was not counted is not there."""
        add(DOORS, ("red",), 2, details=("Odd",))
        add(DOORS, ("red",))
        record(WAITS, ('"\n\\',), [0.2, 0.001, 99.0])
        values = parsed(exporter.text().decode())

        assert values["doors_total", (("colour", "red"),)] == 3
        odd = (("colour", '"\n\\'),)
        assert values["waits_seconds_count", odd] == 3
        assert values["waits_seconds_sum", odd] == pytest.approx(99.201)
        assert values["waits_seconds_bucket", (*odd, ("le", "0.1"))] == 1
        assert values["waits_seconds_bucket", (*odd, ("le", "0.25"))] == 2
        assert values["waits_seconds_bucket", (*odd, ("le", "10.0"))] == 2
        assert values["waits_seconds_bucket", (*odd, ("le", "+Inf"))] == 3
        assert not [name for name, _ in values if name.startswith("outbox_")]

    def test_it_is_what_the_library_itself_would_make_of_it(self, exporter: Prometheus) -> None:
        """Whatever the values are, and however many at once: also those on a limit of a bucket."""
        registry = CollectorRegistry()
        theirs = Histogram(
            WAITS.name, WAITS.meaning, ["colour"], registry=registry, buckets=WAITS.buckets
        )
        chance = random.Random(7)
        for _ in range(300):
            choices = [*WAITS.buckets, 0.0, 20.0, *(chance.uniform(0, 12) for _ in range(9))]
            values = chance.choices(choices, k=chance.randrange(1, 30))
            record(WAITS, ("red",), values)
            for value in values:
                theirs.labels("red").observe(value)
        wanted = {
            key: value
            for key, value in parsed(generate_latest(registry).decode()).items()
            if not key[0].endswith("_created")
        }

        ours = parsed(exporter.text().decode())
        assert ours == pytest.approx(wanted)

    def test_threads(self, exporter: Prometheus) -> None:
        """A process may consume for several groups: nothing is lost between them."""

        def work() -> None:
            for _ in range(2000):
                add(DOORS, ("red",))
                record(WAITS, ("red",), [0.1, 0.2])

        threads = [threading.Thread(target=work) for _ in range(4)]
        for each in threads:
            each.start()
        for each in threads:
            each.join()
        values = parsed(exporter.text().decode())
        assert values["doors_total", (("colour", "red"),)] == 8000
        assert values["waits_seconds_count", (("colour", "red"),)] == 16000


WORKER = """
import os, sys
import django
django.setup()
from django.test import RequestFactory
from outbox.producer.measuring import EMITTED, EMIT_SECONDS
from outbox.instruments import add, exporters, record
from outbox.telemetry import exporting
for _ in range(2):
    if os.fork() == 0:
        add(EMITTED, ("a.b",), 3)
        record(EMIT_SECONDS, (), [0.02, 0.2])
        os._exit(0)
    assert os.wait()[1] == 0
add(EMITTED, ("a.b",), 1)
[own] = exporters()
print(own.text().decode())
print("=== all")
print(exporting.text().decode())
"""


@pytest.mark.slow
def test_several_workers_of_a_web_server(tmp_path: Path) -> None:
    """With PROMETHEUS_MULTIPROC_DIR any of them tells the numbers of all, also of those that ended;
    what the project counts itself is not among them."""
    environment = {
        **os.environ,
        "DJANGO_SETTINGS_MODULE": "tests.settings",
        "DATABASE_URL": "sqlite://:memory:",
        "TEST_OUTBOX": '{"METRICS": ["prometheus"]}',
        "PROMETHEUS_MULTIPROC_DIR": str(tmp_path),
    }
    other = (
        "from prometheus_client import Counter; Counter('theirs', 'x').inc(); "
        "print(__import__('os').getpid())"
    )
    for program in (other, WORKER):
        done = subprocess.run(
            [sys.executable, "-c", program],
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
    own, every = map(parsed, done.stdout.split("=== all"))
    assert own["outbox_emitted_total", (("type", "a.b"),)] == 1
    assert every["outbox_emitted_total", (("type", "a.b"),)] == 7
    assert every["outbox_emit_seconds_count", ()] == 4
    assert every["outbox_emit_seconds_bucket", (("le", "0.025"),)] == 2
    assert {name for name, _ in every if not name.startswith("outbox_")} == set()


@pytest.fixture
def reader(monkeypatch: pytest.MonkeyPatch) -> InMemoryMetricReader:
    """What a project sets up of OpenTelemetry, for one test."""
    found = InMemoryMetricReader()
    monkeypatch.setattr(otel_internal, "_METER_PROVIDER", MeterProvider(metric_readers=[found]))
    monkeypatch.setattr(otel_internal, "_METER_PROVIDER_SET_ONCE", Once())
    return found


def read(reader: InMemoryMetricReader) -> Mapping[str, Any]:
    data: Any = reader.get_metrics_data()
    if data is None:
        return {}
    [resource] = data.resource_metrics
    [scope] = resource.scope_metrics
    assert scope.scope.name == "django-outbox-inbox"
    return {each.name: each for each in scope.metrics}


class TestOpenTelemetry:
    """By the SDK's own reader."""

    def test_counters_and_histograms(self, reader: InMemoryMetricReader) -> None:
        """With unit, buckets and attributes; details that are empty are not there."""
        use(OpenTelemetry())
        add(DOORS, ("red",), 2, details=("Odd",))
        add(DOORS, ("red",), 3, details=("",))
        record(WAITS, ("red",), [0.2, 0.001])
        found = read(reader)

        doors = found["outbox.doors"]
        assert (doors.unit, doors.description) == ("{door}", "doors that were opened")
        assert doors.data.is_monotonic
        points = {
            tuple(sorted(each.attributes.items())): each.value for each in doors.data.data_points
        }
        red = (("house", "mine"), ("outbox.colour", "red"))
        assert points == {(("error.type", "Odd"), *red): 2, red: 3}
        [waits] = found["outbox.waits"].data.data_points
        assert (waits.count, waits.sum) == (2, pytest.approx(0.201))
        assert waits.explicit_bounds == WAITS.buckets

    def test_of_many_values_some_are_recorded(self, reader: InMemoryMetricReader) -> None:
        """Each costs time: those that are have the shape of all."""
        use(OpenTelemetry())
        record(WAITS, ("red",), [number / 1000 for number in range(1000)])
        [point] = read(reader)["outbox.waits"].data.data_points
        assert (point.count, point.min, point.max) == (MOST_VALUES, 0.0, 0.999)
        assert point.sum / point.count == pytest.approx(0.5, abs=0.01)

    @pytest.mark.parametrize("count", [1, MOST_VALUES, MOST_VALUES + 1, 1000])
    def test_which_values(self, count: int) -> None:
        """As many as there are, up to the bound, in order, with both ends."""
        values = [float(number) for number in range(count)]
        chosen = list(some(values))
        assert len(chosen) == min(count, MOST_VALUES)
        assert (chosen[0], chosen[-1]) == (values[0], values[-1])
        assert chosen == sorted(set(chosen))

    def test_without_a_provider_nothing_happens(self) -> None:
        """A project that has the API alone."""
        use(OpenTelemetry())
        add(DOORS, ("red",), details=("",))
        record(WAITS, ("red",), [1.0])


class TestSetting:
    """OUTBOX["METRICS"]."""

    def names(self) -> list[str]:
        return [each.name for each in exporters()]

    def test_it_is_read_live(self) -> None:
        """And counts go on where they were, when it is what it was."""
        assert self.names() == []
        with override_settings(OUTBOX={"METRICS": ["prometheus", "opentelemetry"]}):
            assert self.names() == ["prometheus", "opentelemetry"]
            add(DOORS, ("red",), details=("",))
        assert self.names() == []
        add(DOORS, ("red",))
        with override_settings(OUTBOX={"METRICS": ("prometheus",)}):
            assert parsed(exporting.text().decode())["doors_total", (("colour", "red"),)] == 1

    @pytest.mark.parametrize("value", ["prometheus", ["statsd"], [["prometheus"]], None, [None]])
    def test_a_wrong_one_is_an_error_of_the_check(self, value: object) -> None:
        """And nobody exports."""
        with override_settings(OUTBOX={"METRICS": value}):
            assert self.names() == []
            errors = [each for each in run_checks() if each.id in ("outbox.E001", "outbox.E008")]
        [error] = errors
        assert "OUTBOX['METRICS'] must be a tuple or list" in error.msg

    @pytest.mark.parametrize(
        ("name", "module"),
        [("prometheus", "prometheus_client"), ("opentelemetry", "opentelemetry")],
    )
    def test_what_is_not_installed(
        self,
        name: str,
        module: str,
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        """The check says what to install; a process that is not checked says so, and goes on."""
        for each in [each for each in sys.modules if each.partition(".")[0] == module]:
            monkeypatch.delitem(sys.modules, each)
        for each in ("outbox.telemetry.prometheus", "outbox.telemetry.otel"):
            monkeypatch.delitem(sys.modules, each, raising=False)
        monkeypatch.setitem(sys.modules, module, None)
        find = exporting.importlib.util.find_spec
        monkeypatch.setattr(
            exporting.importlib.util, "find_spec", lambda x: None if x == module else find(x)
        )
        with override_settings(OUTBOX={"METRICS": [name]}):
            assert self.names() == []
            [error] = [each for each in run_checks() if each.id == "outbox.E008"]
        assert f"'django-outbox-inbox[{name}]'" in str(error.hint)
        assert f"There are no metrics by {name}" in caplog.text

    def test_off_imports_nothing(self) -> None:
        """And on, only what was asked for."""
        program = (
            "import django, sys; django.setup(); "
            "print([n for n in ('prometheus_client', 'opentelemetry') if n in sys.modules])"
        )

        def imported(metrics: str) -> str:
            return subprocess.check_output(
                [sys.executable, "-c", program],
                cwd=ROOT,
                env={
                    **os.environ,
                    "DJANGO_SETTINGS_MODULE": "tests.settings",
                    "DATABASE_URL": "sqlite://:memory:",
                    "TEST_OUTBOX": f'{{"METRICS": {metrics}}}',
                },
                text=True,
            ).strip()

        assert imported("[]") == "[]"
        assert imported('["prometheus"]') == "['prometheus_client']"
        assert imported('["opentelemetry"]') == "['opentelemetry']"


@pytest.mark.django_db(transaction=True)
class TestView:
    """The process' own numbers beside those of the rows."""

    def get(self) -> str:
        request = RequestFactory().get("/metrics")
        return str(metrics_view(token=None)(request).content.decode())

    def test_both_are_there(self) -> None:
        """In one text, which Prometheus' parser reads."""
        with override_settings(OUTBOX={"METRICS": ["prometheus"]}):
            with transaction.atomic():
                outbox.emit(Counted("k", 1))
            values = parsed(self.get())
        assert values["outbox_emitted_total", (("type", "tests.counted"),)] == 1
        assert values["outbox_scrape_ok", (("part", "outbox"),)] == 1

    def test_off_there_are_the_gauges(self) -> None:
        """As ever."""
        text = self.get()
        assert "outbox_scrape_ok" in text
        assert "outbox_emit" not in text
