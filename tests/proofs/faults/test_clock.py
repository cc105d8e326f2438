"""The clock that the fault suite steps."""

import os
import signal
import subprocess
import sys

import pytest

from tests.proofs.faults import clock

_PROGRAM = """
import time
from tests.proofs.faults import clock
clock.install()
from django.utils import timezone
for line in iter(input, ""):
    clocks = time.time(), time.time_ns() / 1e9, timezone.now().timestamp(), time.monotonic()
    print(*clocks, flush=True)
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "step"),
    [(clock.FORWARDS, clock.STEP_SECONDS), (clock.BACK, -clock.STEP_SECONDS)],
)
def test_a_signal_steps_the_wall_clock_alone(number: signal.Signals, step: int):
    """time.time(), time.time_ns() and timezone.now() jump, the monotonic clock does not."""
    with subprocess.Popen(
        [sys.executable, "-c", _PROGRAM],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None

        def ask() -> list[float]:
            print("?", file=process.stdin, flush=True)
            return [float(number) for number in process.stdout.readline().split()]

        before = ask()
        process.send_signal(number)
        assert process.stderr.readline() == f"{clock.SAID} {step:+} s\n"
        jumps = [after - then for after, then in zip(ask(), before, strict=True)]
        process.kill()

    assert jumps == pytest.approx([step, step, step, 0], abs=60)
