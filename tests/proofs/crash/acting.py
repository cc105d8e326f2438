"""Carry out an operation about some rows: `acting OPERATION ID …`, as the user root.

The operations are those of the table below; one handler is known here and nowhere else.
"""

import sys
from typing import Any

import django


def late(event: object, message: object) -> None:
    """Leave an effect."""
    from tests.inbox.support import record  # noqa: PLC0415 - needs apps

    record(event, message, "late")  # type: ignore[arg-type]


def main() -> None:
    django.setup()
    from django.contrib.auth.models import User  # noqa: PLC0415 - needs apps

    from inbox.handlers.registry import Handler, handlers  # noqa: PLC0415 - needs apps
    from inbox.operations import OF_LETTERS, OF_RECEIPTS  # noqa: PLC0415 - needs apps
    from outbox.operations import Operation, carry_out  # noqa: PLC0415 - needs apps
    from relay.api.again import by  # noqa: PLC0415 - needs apps

    handlers.add(Handler(name="late", function=late, pattern="tests.late", declared_group="g"))
    operations: dict[str, Any] = {
        "discard": OF_RECEIPTS["discard"],
        "receive": OF_LETTERS["retry"],
        "publish": by("default"),
    }
    operation: Operation = operations[sys.argv[1]]
    user = User.objects.get(username="root")
    carry_out(operation, [int(each) for each in sys.argv[2:]], user=user, reason="so")


if __name__ == "__main__":
    main()
