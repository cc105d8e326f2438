"""What all programs share: options, servers, the way to a result."""

import argparse
import shlex
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.machine import busy, machine, versions
from benchmarks.results import RESULTS, Figure, Ratio, Result, Series, lines
from benchmarks.rounds import Contender, interleaved
from benchmarks.servers import NoBroker, Servers

CROWDED = 0.25
"""Cores in use by others from which on figures are not worth much."""


@dataclass(slots=True)
class Study:
    """One question while it is being answered."""

    servers: Servers
    rounds: int
    scale: float
    rows: int
    peers: bool
    parameters: dict[str, str | int | float] = field(default_factory=dict)
    figures: dict[str, Figure] = field(default_factory=dict)
    ratios: dict[str, Ratio] = field(default_factory=dict)
    series: dict[str, Series] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def say(self, text: str) -> None:
        print(text, flush=True)

    def size(self, name: str, number: int) -> int:
        """Return how large something shall be in this run, and note it."""
        scaled = max(1, round(number * self.scale))
        self.parameters[name] = scaled
        return scaled

    def compete(self, contenders: Sequence[Contender]) -> Mapping[str, Figure]:
        """Measure contenders beside each other; return their figures, which are noted."""
        found = interleaved(contenders, self.rounds, self.say)
        self.figures |= found
        return found


Answer = Callable[[Study], None]


@dataclass(frozen=True, slots=True)
class Question:
    """A question and the program that answers it. Without `usual` it is asked by name only."""

    name: str
    title: str
    answer: Answer
    usual: bool = True


def main(question: Question) -> int:
    """Answer one question from the command line."""
    arguments = sys.argv[1:]
    options = parse(f"python -m benchmarks.questions.{question.name}", arguments)
    with Servers() as servers:
        run(question, servers, options, command_of(arguments, question.name))
    return 0


def run(
    question: Question, servers: Servers, options: argparse.Namespace, command: str
) -> Result | None:
    """Answer a question, print and write the result; None if there is no broker for it."""
    print(f"\n## {question.title}", flush=True)
    study = Study(
        servers,
        rounds=options.rounds,
        scale=options.scale,
        rows=options.rows,
        peers=not options.no_peers,
    )
    here, started = machine(), time.monotonic()
    try:
        question.answer(study)
    except NoBroker as exc:
        print(f"  SKIPPED: there is no RabbitMQ: {exc}", flush=True)
        return None
    here["cores busy after"] = f"{busy():.2f}"
    if max(float(here[f"cores busy {when}"]) for when in ("before", "after")) > CROWDED:
        study.notes.append(
            "**The machine was busy with other work**: these figures are worse than they would be, "
            "and their ratios are rough."
        )
    result = Result(
        question=question.name,
        title=question.title,
        date=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        command=command,
        seconds=round(time.monotonic() - started, 1),
        machine=here,
        versions=versions(servers.admin_url, servers.broker_version),
        parameters={"rounds": options.rounds, **study.parameters},
        figures=study.figures,
        ratios=study.ratios,
        series=study.series,
        skipped=study.skipped,
        notes=study.notes,
    )
    print("\n".join(lines(result)), flush=True)
    print(f"  {result.seconds:.0f} s", flush=True)
    result.write(options.output)
    return result


def parse(program: str, arguments: Sequence[str], names: Sequence[str] = ()) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog=program)
    if names:
        parser.add_argument(
            "questions",
            nargs="*",
            choices=[*names, []],
            metavar="QUESTION",
            help=f"any of {', '.join(names)}",
        )
    parser.add_argument("--rounds", type=int, default=3, help="of everything (%(default)s)")
    parser.add_argument(
        "--scale", type=float, default=1, help="how many messages, relative (%(default)s)"
    )
    parser.add_argument(
        "--rows", type=int, default=1_000_000, help="of history and of backlog (%(default)s)"
    )
    parser.add_argument("--no-peers", action="store_true", help="measure no other libraries")
    parser.add_argument("--output", type=Path, default=RESULTS, help="where results are written")
    return parser.parse_args(arguments)


def command_of(arguments: Sequence[str], *questions: str) -> str:
    """Return how to run this again."""
    given = [*questions, *arguments]
    return f"make bench ARGS={shlex.quote(' '.join(given))}" if given else "make bench"
