"""Measure a commit and the working tree by turns, on one machine and in one run.

Even a ratio is another one on another machine: the same commit made 0.81 of the bare loop on one,
and 0.68 to 0.77 on the next. What a change has cost is seen beside what was there before it.
"""

import argparse
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median

import msgspec

from benchmarks.results import RESULTS, Result, read

ROOT = RESULTS.parents[1]
PLACE = ROOT / ".local" / "against"
NOW = "now"


def measure(commit: str, arguments: Sequence[str]) -> tuple[dict[str, Result], dict[str, Result]]:
    """Return what was measured of a commit and of the working tree: medians of all rounds.

    `arguments` are those of `make bench`. Raises CalledProcessError if there is no such commit, or
    one of the two cannot be measured.
    """
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--rounds", type=int, default=3)
    options, others = parser.parse_known_args(arguments)
    trees = {commit: _checked_out(commit), NOW: ROOT}
    rounds: dict[str, list[dict[str, Result]]] = {commit: [], NOW: []}
    for number in range(options.rounds):
        order = [commit, NOW] if number % 2 == 0 else [NOW, commit]
        for side in order:
            print(f"\n##### round {number + 1}/{options.rounds}, {side}", flush=True)
            output = PLACE / f"{'now' if side == NOW else 'before'}-{number}"
            for stale in output.glob("*.json"):
                stale.unlink()
            _run(trees[side], [*others, "--no-peers", "--rounds=1", f"--output={output}"])
            rounds[side].append(read(output))
    return combined(rounds[commit]), combined(rounds[NOW])


def combined(rounds: Sequence[Mapping[str, Result]]) -> dict[str, Result]:
    """Return results of which each ratio is the median of those of the rounds."""
    return {name: _combined([each[name] for each in rounds]) for name in rounds[0]}


def _combined(results: Sequence[Result]) -> Result:
    ratios = {
        key: msgspec.structs.replace(
            ratio, value=median(each.ratios[key].value for each in results)
        )
        for key, ratio in results[0].ratios.items()
    }
    return msgspec.structs.replace(results[0], ratios=ratios)


def _checked_out(commit: str) -> Path:
    """Return a working tree of a commit, with an environment of its own."""
    tree = PLACE / "tree"
    if not (tree / ".git").exists():
        _git("worktree", "prune")
        _git("worktree", "add", "--detach", "--force", str(tree), commit)
    _git("-C", str(tree), "checkout", "--quiet", "--detach", commit)
    make_venv = ["scripts/make-venv", ".venv", sys.executable]
    subprocess.run(make_venv, cwd=tree, check=True)
    return tree


def _git(*arguments: str) -> None:
    subprocess.run(["git", *arguments], cwd=ROOT, check=True)


def _run(tree: Path, arguments: Sequence[str]) -> None:
    python = tree / ".venv" / "bin" / "python"
    subprocess.run([python, "-m", "benchmarks", *arguments], cwd=tree, check=True)
