"""`manage.py` with two groups more: the handler of one ends its process, that of the other is slow.

TEST_GROUP names what the names of the groups begin with.
"""

import os
import sys
import time

import django
from django.core.management import execute_from_command_line

GUILTY, INNOCENT = "guilty", "innocent"


def guilty(event: object, message: object) -> None:
    """End the process, 0.2 seconds after the call."""
    time.sleep(0.2)
    os._exit(9)


def innocent(event: object, message: object) -> None:
    """Leave an effect, 0.6 seconds after the call."""
    from tests.inbox.support import record  # noqa: PLC0415 - needs apps

    time.sleep(0.6)
    record(event, message, INNOCENT)  # type: ignore[arg-type]


def main() -> None:
    django.setup()
    from inbox.handlers.registry import Handler, handlers  # noqa: PLC0415 - needs apps

    group = os.environ["TEST_GROUP"]
    for each in (guilty, innocent):
        name = each.__name__
        handlers.add(
            Handler(
                name=name, function=each, pattern="tests.happened", declared_group=f"{group}.{name}"
            )
        )
    execute_from_command_line(sys.argv)


if __name__ == "__main__":
    main()
