"""Question 9: how long does the database take for a page, whatever there is to show?

Eight weeks of a busy service, with millions of messages and receipts. Every page of the admin is
opened, every list with each filter that it knows, everything that the API has, the metrics and the
commands that look. Asked by name only: it takes long to make eight weeks.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks import weeks
from benchmarks.databases import service_database
from benchmarks.processes import run_worker
from benchmarks.question import Question, Study, main
from benchmarks.results import Figure, limit

GOAL_MS = 300.0
SHOWN = 60
"""Characters of the name of a page."""

Opened = Mapping[str, Any]


def answer(study: Study) -> None:
    study.parameters |= {
        "messages": study.rows,
        "receipts": study.rows,
        "types": weeks.TYPES,
        "keys": weeks.KEYS,
        "weeks": weeks.WEEKS,
        "handlers": weeks.LINES,
        "relays": len(weeks.RELAYS),
        "lanes": weeks.LANES,
        "dead receipts": weeks.DEAD,
        "dead letters": weeks.LETTERS,
        "parked messages": weeks.PARKED,
    }
    with service_database(study.servers, "pages") as database:
        seconds = weeks.fill(database, study.rows)
        study.say(f"  eight weeks in {seconds:.0f} s")
        found: Sequence[Opened] = run_worker(
            "pages",
            str(study.rounds),
            DATABASE_URL=database.url(),
            DJANGO_SETTINGS_MODULE="benchmarks.pages_settings",
        )["pages"]
    wrong = [each["name"] for each in found if each["status"] >= 400]
    if wrong:
        raise RuntimeError(f"could not be opened: {', '.join(wrong)}")
    for each in sorted(found, key=quickest, reverse=True)[:20]:
        study.say(
            f"  {quickest(each) * 1e3:5.0f} ms  {each['statements']:3} statements  {each['name']}"
        )
    note(study, found)


def note(study: Study, found: Sequence[Opened]) -> None:
    """Note of each group of pages the one that takes longest, and the one with most statements."""
    groups: dict[str, list[Opened]] = {}
    for each in found:
        groups.setdefault(each["group"], []).append(each)
    for name, pages in groups.items():
        worst = max(pages, key=quickest)
        study.figures[name] = Figure(
            label=_label(name, worst, len(pages)),
            unit="ms",
            values=[round(seconds * 1e3, 1) for seconds in worst["seconds"]],
        )
    for name, pages in groups.items():
        worst = max(pages, key=at_work)
        study.figures[f"{name}, processor"] = Figure(
            label=_label(name, worst, len(pages)),
            unit="ms of a processor",
            values=[round(seconds * 1e3, 1) for seconds in worst["processor"]],
        )
    for name, pages in groups.items():
        most = max(each["statements"] for each in pages)
        study.figures[f"{name}, statements"] = Figure(
            label=f"{name}: most statements", unit="statements", values=[float(most)]
        )
    slowest = max(found, key=quickest)
    study.ratios["slowest"] = limit(
        Figure(
            label=f"the slowest of {len(found)} pages: time in the database",
            unit="ms",
            values=[quickest(slowest) * 1e3],
        ),
        GOAL_MS,
    )
    busiest = max(found, key=at_work)
    study.ratios["processor"] = limit(
        Figure(
            label="the page that costs most: processor time of the database",
            unit="ms",
            values=[at_work(busiest) * 1e3],
        ),
        GOAL_MS,
    )
    first = max(found, key=lambda each: each["seconds"][0])
    study.notes.append(
        f"{len(found)} pages were opened. A figure is the page of its group that takes longest, "
        "and its time in the database: that of all its statements, seen from the process that "
        "asks. Of a page the round counts that was least disturbed, and the slowest were opened "
        "eight times more. Processor time is that of the server's process for the page, without "
        "what it waits for a processor or a disk that others use. At its first opening "
        f"“{first['name']}” took longest, {first['seconds'][0] * 1e3:,.0f} ms: what it reads was "
        "not in memory then."
    )


def quickest(opened: Opened) -> float:
    """Return the seconds of the round that others on the machine have disturbed least."""
    return float(min(opened["seconds"]))


def at_work(opened: Opened) -> float:
    """Return the seconds that the database's process was at work, in that round."""
    return float(min(opened["processor"]))


def _label(group: str, worst: Opened, count: int) -> str:
    if count == 1:
        return group
    name = str(worst["name"]).removeprefix(f"{group}, ")
    return f"{group}: {name[:SHOWN]}"


QUESTION = Question(
    "pages", "Pages: how long does the database take for each?", answer, usual=False
)

if __name__ == "__main__":
    raise SystemExit(main(QUESTION))
