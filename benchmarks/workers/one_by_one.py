"""A consumer as one would write it by hand: `one_by_one`. A transaction for each message.

It deduplicates as cheaply as can be, runs the same effect, commits, acknowledges, until it has
handled the message of number -1.
"""

import json
import os
import time
from typing import Any

import django

PREFETCH = 100
SEEN = """
INSERT INTO bench_seen (message_id) VALUES (%s) ON CONFLICT DO NOTHING
"""


def main() -> None:
    with connection.cursor() as cursor:
        cursor.execute("CREATE TABLE IF NOT EXISTS bench_seen (message_id uuid PRIMARY KEY)")
    done = False

    def handle(message: Any) -> None:
        nonlocal done
        with transaction.atomic():
            with connection.cursor() as cursor:
                cursor.execute(SEEN, [message.properties["message_id"]])
                new = cursor.rowcount
            if new:
                event = json.loads(message.body)
                Effect(number=event["number"], note=event["note"], at=time.time()).save(
                    force_insert=True
                )
                done = event["number"] == -1
        channel.basic_ack(message.delivery_tag)

    broker = amqp.connect(
        os.environ["BROKER_URL"], name="by hand", connect_timeout=5, socket_timeout=15, heartbeat=30
    )
    channel: Any = broker.channel()
    channel.basic_qos(0, PREFETCH, False)
    channel.basic_consume("bench", callback=handle)
    while not done:
        channel.connection.drain_events(timeout=30)
    broker.release()
    print("{}")


if __name__ == "__main__":
    django.setup()

    from django.db import connection, transaction

    from benchmarks.service.models import Effect
    from outbox.amqp import connection as amqp

    main()
