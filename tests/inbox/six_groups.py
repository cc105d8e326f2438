"""`manage.py` with six groups more, whose handlers take a moment and leave an effect each.

TEST_GROUP names what the names of the groups begin with.
"""

import os
import sys
import time
from functools import partial

import django
from django.core.management import execute_from_command_line

NAMES = tuple("abcdef")


def handle(event: object, message: object, name: str) -> None:
    from tests.inbox.support import record  # noqa: PLC0415 - needs apps

    time.sleep(0.01)
    record(event, message, name)  # type: ignore[arg-type]


def main() -> None:
    django.setup()
    from inbox.handlers.registry import Handler, handlers  # noqa: PLC0415 - needs apps

    for name in NAMES:
        handlers.add(
            Handler(
                name=f"six.{name}",
                function=partial(handle, name=name),
                pattern="tests.happened",
                declared_group=f"{os.environ['TEST_GROUP']}.{name}",
            )
        )
    execute_from_command_line(sys.argv)


if __name__ == "__main__":
    main()
