"""Keep the shop open: an order now and then, for as long as somebody looks at it.

One depot is closed meanwhile, so that there is something to find and to mend in the admin: delete
it from the closed depots, and try again what has failed.
"""

import random
import threading
import time
from collections.abc import Collection
from itertools import count

from project.demo.site import Site
from project.demo.stage import Stage
from project.demo.truth import Truth
from project.demo.writers import Writer
from project.shipping.models import Closure

_PAUSE = (0.3, 2.0)
_CLOSED = "north"


def trickle(stage: Stage, sites: Collection[Site], truth: Truth) -> None:
    """Place and change orders, and have them handled, until Ctrl-C."""
    closures = Closure.objects.using(stage.services.shipping)
    closures.get_or_create(depot=_CLOSED, defaults={"reason": "snow on the road"})
    stage.start_consumers()
    stage.start_relay()
    stage.start_relay_to_carrier()
    seed = random.getrandbits(32)
    writer = Writer("walk-in", seed=seed, truth=truth, stop=threading.Event())
    for number in count(1):
        writer.place(f"walk-in-{number}")
        writer.change()
        time.sleep(random.uniform(*_PAUSE))  # noqa: S311
        stage.check()
        for site in sites:
            site.check()
