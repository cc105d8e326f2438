"""Emit a backlog: `load MESSAGES FIRST`."""

import json
import sys

import django

BATCH = 1000


def main(messages: int, first: int) -> None:
    for start in range(first, first + messages, BATCH):
        numbers = range(start, min(start + BATCH, first + messages))
        with transaction.atomic():
            outbox.emit_many(placed(numbers))
    print(json.dumps({"messages": messages}))


if __name__ == "__main__":
    django.setup()

    from django.db import transaction

    import outbox
    from benchmarks.service.events import placed

    main(int(sys.argv[1]), int(sys.argv[2]))
