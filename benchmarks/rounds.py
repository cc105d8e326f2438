"""Rounds in which contenders take turns, so that each meets the same weather."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from benchmarks.results import Figure, number


@dataclass(frozen=True, slots=True)
class Contender:
    """Something that is measured beside others; `run` returns one figure."""

    name: str
    label: str
    run: Callable[[], float]
    unit: str = "msg/s"


def interleaved(
    contenders: Sequence[Contender], rounds: int, say: Callable[[str], object]
) -> Mapping[str, Figure]:
    """Run all contenders once in each round, each round beginning with another one."""
    values: dict[str, list[float]] = {each.name: [] for each in contenders}
    for turn in range(rounds):
        start = turn % len(contenders)
        for each in (*contenders[start:], *contenders[:start]):
            value = each.run()
            values[each.name].append(value)
            say(f"  round {turn + 1}/{rounds}  {each.label}: {number(value)} {each.unit}")
    return {
        each.name: Figure(label=each.label, unit=each.unit, values=values[each.name])
        for each in contenders
    }
