"""`make bench-check`: measure again, and name each ratio that is worse than the committed one.

With `--no-run` what was measured last is compared once more. With `--against COMMIT` that commit is
measured too, by turns with what is here: another machine makes other ratios.
"""

import argparse
import sys
from collections.abc import Iterator, Mapping, Sequence

from benchmarks import __main__ as bench
from benchmarks.report import against
from benchmarks.results import RESULTS, Ratio, Result, number, read

AGAIN = RESULTS.parents[1] / ".local" / "bench-results"
TOLERANCE = 0.10


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="make bench-check", add_help=False)
    parser.add_argument("--no-run", action="store_true")
    parser.add_argument("--against", metavar="COMMIT")
    options, given = parser.parse_known_args(arguments)
    if options.against:
        before, now = against.measure(options.against, given)
    else:
        if not options.no_run:
            for old in AGAIN.glob("*.json"):
                old.unlink()
            bench.main([*given, f"--output={AGAIN}"])
        before, now = read(RESULTS), read(AGAIN)
    text, worse = compare(before, now)
    print(f"\n{text}")
    return 1 if worse else 0


def compare(committed: Mapping[str, Result], measured: Mapping[str, Result]) -> tuple[str, int]:
    """Describe how ratios have changed; count those that got worse by more than the tolerance."""
    rows = list(_changes(committed, measured))
    worse = [row for row, change in rows if change > TOLERANCE]
    text = [row for row, _ in rows]
    for name in committed.keys() - measured.keys():
        text.append(f"{name}: not measured this time")
    text.append(
        f"{len(worse)} of {len(rows)} ratios got worse by more than {TOLERANCE:.0%}"
        + "".join(f"\n  {row}" for row in worse)
    )
    return "\n".join(text), len(worse)


def _changes(
    committed: Mapping[str, Result], measured: Mapping[str, Result]
) -> Iterator[tuple[str, float]]:
    for name in measured.keys() & committed.keys():
        before, now = committed[name], measured[name]
        different = _different(before, now)
        for key in before.ratios.keys() & now.ratios.keys():
            if before.ratios[key].stable:
                change = worsening(before.ratios[key], now.ratios[key])
                yield _row(name, before.ratios[key], now.ratios[key], change) + different, change


def worsening(before: Ratio, now: Ratio) -> float:
    """Return by which part a ratio got worse; negative if it got better."""
    if now.better == "higher":
        return before.value / now.value - 1 if now.value else float("inf")
    return now.value / before.value - 1 if before.value else 0.0


def _row(name: str, before: Ratio, now: Ratio, change: float) -> str:
    how = f"{abs(change):.0%} {'worse' if change > 0 else 'better'}"
    return f"{name}: {now.label}: {number(before.value)} → {number(now.value)}, {how}"


def _different(before: Result, now: Result) -> str:
    """Say if the two were not measured alike."""
    names = before.parameters.keys() | now.parameters.keys()
    changed = sorted(
        name for name in names if before.parameters.get(name) != now.parameters.get(name)
    )
    return f" (with another number of {', '.join(changed)})" if changed else ""


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
