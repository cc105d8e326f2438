"""Question 8: does anything grow under a steady load?

Ten minutes of emit, relay, consume and prune, where everything is kept for one minute. After that
minute sizes should stay as they are, and latency with them.
"""

import tempfile
import time
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from pathlib import Path

from benchmarks.databases import Database, service_database
from benchmarks.processes import Process, report
from benchmarks.question import Question, Study, main
from benchmarks.queues import drop_queue
from benchmarks.results import Figure, Ratio, Series, percentile

RATE = 100
KEEP = 60
SAMPLE_EVERY = 5.0
BUCKET = 15.0
"""Seconds whose latencies make one point."""

TABLES = {
    "django_outbox_message": "messages",
    "django_relay_checkpoint": "checkpoints",
    "django_inbox_receipt": "receipts",
}

SIZES = """
SELECT c.relname, pg_table_size(c.oid), pg_indexes_size(c.oid), s.n_dead_tup, s.n_live_tup
FROM pg_class AS c JOIN pg_stat_user_tables AS s ON s.relid = c.oid
WHERE c.relname = ANY(%s)
"""

CHARTS = {
    "table": "sizes",
    "indexes": "sizes",
    "dead": "dead rows",
    "live": "live rows",
    "memory": "memory",
}

Points = list[tuple[float, float]]


def answer(study: Study) -> None:
    url = study.servers.broker_url
    seconds = study.size("seconds", 600)
    study.parameters |= {"events a second": RATE, "seconds that all is kept": KEEP}
    points: dict[str, Points] = {}
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
        (handled := directory / "handled").touch()
        database = stack.enter_context(service_database(study.servers, "growth"))
        drop_queue(url)
        stack.callback(drop_queue, url)
        variables = {
            "DATABASE_URL": database.url(),
            "BROKER_URL": url,
            "BENCH_KEEP": str(KEEP),
            "BENCH_HANDLED": str(handled),
        }
        consumer = stack.enter_context(Process.manage("consume", **variables))
        relay = stack.enter_context(Process.manage("relay", **variables))
        time.sleep(3)  # both are listening
        steady = stack.enter_context(
            Process.worker("steady", *map(str, (RATE, seconds, 0)), **variables)
        )
        started = time.time()
        while steady.running:
            sample(database, points, (time.time() - started) / 60)
            for name, process in (("relay", relay), ("consumer", consumer)):
                note(points, f"memory-{name}", started, process.resident_bytes() / 2**20)
            time.sleep(SAMPLE_EVERY)
        committed: Mapping[str, float] = dict(report(steady.wait())["committed"])
        time.sleep(3)
        lines = [line.split() for line in handled.read_text().splitlines()]
    latencies = [
        (float(at) - started, (float(at) - committed[each]) * 1e3)
        for each, at in lines
        if each in committed
    ]
    note_latencies(study, latencies)
    note_sizes(study, points)
    study.figures["handled"] = Figure(
        label="handled of what was emitted",
        unit="%",
        values=[100 * len(latencies) / len(committed)],
    )


def sample(database: Database, points: dict[str, Points], minute: float) -> None:
    for table, heap, indexes, dead, live in database.query(SIZES, [list(TABLES)]):
        for what, value in (
            ("table", heap / 2**20),
            ("indexes", indexes / 2**20),
            ("dead", dead),
            ("live", live),
        ):
            points.setdefault(f"{what}-{TABLES[table]}", []).append((minute, float(value)))


def note(points: dict[str, Points], name: str, started: float, value: float) -> None:
    points.setdefault(name, []).append(((time.time() - started) / 60, value))


def note_latencies(study: Study, latencies: Iterable[tuple[float, float]]) -> None:
    buckets: dict[int, list[float]] = {}
    for second, value in latencies:
        buckets.setdefault(int(second / BUCKET), []).append(value)
    whole = sorted(buckets)[:-1]
    for percent in (50, 99):
        study.series[f"latency-p{percent}"] = Series(
            chart="latency",
            label=f"commit → handler committed, p{percent}",
            unit="ms",
            points=[
                ((bucket + 1) * BUCKET / 60, percentile(buckets[bucket], percent))
                for bucket in whole
            ],
        )
    thirds = len(whole) // 3
    if thirds:
        first, last = (
            percentile([value for bucket in part for value in buckets[bucket]], 50)
            for part in (whole[:thirds], whole[-thirds:])
        )
        study.ratios["latency"] = Ratio(
            label="median latency in the last third : in the first",
            value=last / first,
            better="lower",
            unit="x",
        )


def note_sizes(study: Study, points: Mapping[str, Points]) -> None:
    units = {"table": "MiB", "indexes": "MiB", "dead": "rows", "live": "rows", "memory": "MiB"}
    for name, each in points.items():
        what, _, of = name.partition("-")
        words = {"table": of, "indexes": f"indexes of {of}", "memory": f"memory of the {of}"}
        study.series[name] = Series(
            chart=CHARTS[what],
            label=words.get(what, f"{what} {of}"),
            unit=units[what],
            points=[(round(x, 3), round(y, 2)) for x, y in each],
        )
        half, end = each[len(each) // 2][1], each[-1][1]
        if what in ("table", "indexes") and half:
            study.ratios[name] = Ratio(
                label=f"{words[what]}: size in the end : half-way",
                value=end / half,
                better="lower",
                unit="x",
            )


QUESTION = Question("growth", "Growth: does anything grow?", answer, usual=False)

if __name__ == "__main__":
    raise SystemExit(main(QUESTION))
