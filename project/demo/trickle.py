"""Keep the shop open: an order now and then, for as long as somebody looks at it."""

import random
import threading
import time
from itertools import count

from project.demo.site import Site
from project.demo.stage import Stage
from project.demo.truth import Truth
from project.demo.writers import Writer

_PAUSE = (0.3, 2.0)


def trickle(stage: Stage, site: Site, truth: Truth) -> None:
    """Place and change orders, and have them handled, until Ctrl-C."""
    stage.start_consumers()
    stage.start_relay()
    seed = random.getrandbits(32)
    writer = Writer("walk-in", seed=seed, truth=truth, stop=threading.Event())
    for number in count(1):
        writer.place(f"walk-in-{number}")
        writer.change()
        time.sleep(random.uniform(*_PAUSE))  # noqa: S311
        stage.check()
        site.check()
