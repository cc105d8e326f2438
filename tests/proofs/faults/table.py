"""The table of faults and verdicts, in Markdown. Pure, apart from asking what runs here."""

import os
import platform
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version

import django

from tests.proofs.faults.round import KEPT, Outcome

_PACKAGES = ("psycopg", "kombu", "amqp")


@dataclass(slots=True)
class Row:
    """The rounds of one fault."""

    title: str
    rounds: int = 0
    events: int = 0
    repeated: int = 0
    suppressed: int = 0
    drained: float = 0.0
    problems: list[str] = field(default_factory=list)

    def add(self, outcome: Outcome) -> None:
        self.rounds += 1
        self.events += outcome.events
        self.repeated += outcome.repeated
        self.suppressed += outcome.suppressed
        self.drained = max(self.drained, outcome.drained)
        if outcome.verdict != KEPT:
            self.problems.append(outcome.verdict)

    def cells(self, allowed: float) -> list[str]:
        kept = self.rounds - len(self.problems)
        verdict = (
            KEPT if not self.problems else f"**broken in {len(self.problems)}**, kept in {kept}"
        )
        return [
            self.title,
            f"{self.rounds}",
            f"{self.events:,}",
            f"{self.repeated:,}",
            f"{self.suppressed:,}",
            f"{self.drained:.1f} s of {allowed:g} s",
            verdict,
        ]


HEAD = (
    "fault",
    "rounds",
    "events",
    "published again",
    "duplicates suppressed",
    "longest time to drain",
    "verdict",
)


def render(outcomes: Iterable[Outcome], *, outage: float) -> str:
    """Return the table: one row per fault, in the order of the outcomes, and what was broken."""
    rows: dict[str, Row] = {}
    allowed: dict[str, float] = {}
    for outcome in outcomes:
        fault = outcome.fault
        title = fault.title.format(outage=outage)
        rows.setdefault(fault.name, Row(title)).add(outcome)
        allowed[fault.name] = fault.drained_within
    lines = [HEAD, ["---", *["---:"] * 5, "---"]]
    lines += [row.cells(allowed[name]) for name, row in rows.items()]
    table = "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
    problems: defaultdict[str, list[str]] = defaultdict(list)
    for row in rows.values():
        for problem in row.problems:
            problems[row.title].append(problem.splitlines()[0])
    told = [f"- {title}: {'; '.join(found)}" for title, found in problems.items()]
    return "\n".join([table, *(["", *told] if told else []), ""])


def circumstances(servers: str, command: Sequence[str]) -> str:
    """Say when, where and with what a table was made."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    packages = ", ".join(f"{name} {version(name)}" for name in _PACKAGES)
    return (
        f"{datetime.now(UTC).date().isoformat()}, `{' '.join(command)}`, {platform.machine()} with "
        f"{os.cpu_count()} cores and {memory:.0f} GiB; {servers}, Python "
        f"{platform.python_version()}, Django {django.__version__}, {packages}.\n"
    )


def replace_section(page: str, name: str, text: str) -> str:
    """Return a page with the text between the comments `<!-- name -->` and `<!-- /name -->`."""
    start, end = f"<!-- {name} -->\n", f"<!-- /{name} -->"
    before, found, rest = page.partition(start)
    _, ended, after = rest.partition(end)
    if not (found and ended):
        raise ValueError(f"the page has no section between {start.strip()} and {end}")
    return f"{before}{start}\n{text}\n{end}{after}"
