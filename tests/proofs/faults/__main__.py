"""All rounds of all faults: `make faults`, or `python -m tests.proofs.faults --help`."""

import argparse
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from tests.kit.processes import ROOT
from tests.proofs.faults import sides, table
from tests.proofs.faults.catalogue import FAULTS, Fault
from tests.proofs.faults.ground import Ground
from tests.proofs.faults.history import UnusableHistory
from tests.proofs.faults.round import KEPT, Outcome, run_round
from tests.proofs.faults.soak import Soaked, soak
from tests.proofs.faults.statements import await_agreement
from tests.proofs.faults.world import FaultError, PromiseBroken, World

PAGE = ROOT / "docs" / "faults.md"
NAMES = [fault.name for fault in FAULTS]


def main(arguments: Sequence[str]) -> int:
    """Run what is asked for, print its table, and return 1 if a promise was broken."""
    options = parse(arguments)
    # As with Ctrl-C: what was started is stopped and removed.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: sys.exit(1))
    command = ["make faults", *([f"ARGS='{' '.join(arguments)}'"] if arguments else [])]
    with Ground() as ground:
        made_with = table.circumstances(ground.versions(), command)
        if options.soak:
            text, kept = run_soak(ground, options)
        else:
            text, kept = run_table(ground, options)
    print(f"\n{made_with}\n{text}")
    if not options.no_write:
        write(options.page, "soak" if options.soak else "table", f"{made_with}\n{text}")
    return 0 if kept else 1


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make faults", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="of each fault (%(default)s)")
    parser.add_argument("--outage", type=float, default=60, help="seconds (%(default)s)")
    parser.add_argument("--rate", type=float, default=150, help="changes a second (%(default)s)")
    parser.add_argument("--fault", action="append", choices=NAMES, help="only this one; repeatable")
    parser.add_argument(
        "--soak", action="store_true", help="random faults for some minutes instead"
    )
    parser.add_argument("--minutes", type=float, default=10, help="of the soak (%(default)s)")
    parser.add_argument("--seed", type=int, help="of the soak's choice of faults")
    parser.add_argument("--page", type=Path, default=PAGE, help="where the table is written to")
    parser.add_argument("--no-write", action="store_true", help="only print")
    return parser.parse_args(arguments)


def run_table(ground: Ground, options: argparse.Namespace) -> tuple[str, bool]:
    chosen = [fault for fault in FAULTS if not options.fault or fault.name in options.fault]
    outcomes: list[Outcome] = []
    for fault in chosen:
        outcomes += run_fault(ground, fault, options)
    kept = all(outcome.verdict == KEPT for outcome in outcomes)
    return table.render(outcomes, outage=options.outage), kept


def run_fault(ground: Ground, fault: Fault, options: argparse.Namespace) -> Iterator[Outcome]:
    """Run the rounds of one fault in a world of its own, in another one after a broken promise."""
    done = 0
    while done < options.rounds:
        with World(ground, rate=options.rate, outage=options.outage) as world:
            outcome = None
            while done < options.rounds and (outcome is None or outcome.verdict == KEPT):
                done += 1
                outcome = judge(world, fault)
                print(
                    f"{fault.name:<28} {done}/{options.rounds}  {outcome.events:>7,} events  "
                    f"{outcome.drained:6.1f} s  {outcome.verdict}",
                    flush=True,
                )
                yield outcome
            if outcome is not None and outcome.verdict == KEPT and not agree(world):
                problem = "the two sides do not come to say the same"
                yield replace(outcome, events=0, problems=(problem,))


def agree(world: World) -> bool:
    """Wait until statements have gone over everything; tell whether they found nothing."""
    try:
        await_agreement(world)
    except (FaultError, PromiseBroken) as exc:
        print(exc, flush=True)
        return False
    return not sides.disagreements(world)


def judge(world: World, fault: Fault) -> Outcome:
    started = time.monotonic()
    try:
        return run_round(world, fault, count_suppressed=True)
    except (FaultError, UnusableHistory, subprocess.SubprocessError) as exc:
        return Outcome(
            fault=fault,
            events=0,
            repeated=0,
            suppressed=0,
            drained=time.monotonic() - started,
            problems=(f"proves nothing: {exc}",),
        )


def run_soak(ground: Ground, options: argparse.Namespace) -> tuple[str, bool]:
    seed = options.seed if options.seed is not None else random.randrange(10**6)
    with World(ground, relays=3, consumers=3, rate=300, outage=10) as world:
        soaked = soak(world, options.minutes, seed=seed)
    return describe(soaked, seed), soaked.verdict == KEPT


def describe(soaked: Soaked, seed: int) -> str:
    struck = ", ".join(f"{name} {count}" for name, count in sorted(soaked.struck.items()))
    rows = [
        f"| {name} | {found.first:.1f} | {found.last:.1f} | {found.highest:.1f} | "
        f"{found.per_minute:+.2f} |"
        for name, found in soaked.memory.items()
    ]
    return "\n".join(
        [
            f"{soaked.seconds / 60:.1f} minutes, {soaked.events:,} events "
            f"({soaked.events / soaked.seconds:.0f} a second), {soaked.struck.total()} faults, "
            f"{soaked.repeated:,} messages published again, drained {soaked.drained:.1f} s after "
            f"the end, seed {seed}. Verdict: {soaked.verdict}.",
            "",
            f"Faults: {struck}.",
            "",
            "| process | MiB after warm-up | MiB in the end | highest | MiB a minute |",
            "| --- | ---: | ---: | ---: | ---: |",
            *rows,
            "",
        ]
    )


def write(page: Path, section: str, text: str) -> None:
    page.write_text(table.replace_section(page.read_text(), section, text))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
