"""A bare loop around py-amqp, without a database: `publish COUNT WINDOW`.

What the relay sends, each message built anew, as fast as the client allows: the ceiling of Python.
"""

import json
import os
import sys
import time
from typing import Any

import django


def main(count: int, window: int) -> None:
    [event] = placed(range(1))
    envelope = wrap(Draft(event=event), outbox_settings())
    headers = wire.to_headers(envelope)
    body, content_type, topic = envelope.data, envelope.content_type, envelope.topic
    in_flight: dict[int, bool] = {}

    def on_ack(tag: int, multiple: bool) -> None:
        if not multiple:
            in_flight.pop(tag, None)
            return
        settled = []
        for sent in in_flight:
            if sent > tag:
                break
            settled.append(sent)
        for sent in settled:
            del in_flight[sent]

    connection = amqp.connect(
        os.environ["BROKER_URL"], name="bare", connect_timeout=5, socket_timeout=15, heartbeat=30
    )
    channel: Any = connection.channel()
    channel.confirm_select()
    channel.events["basic_ack"].add(on_ack)
    channel.events["basic_return"].add(lambda *_: sys.exit("a message came back"))
    drain = channel.connection.drain_events
    started, cpu = time.monotonic(), time.process_time()
    sent = 0
    while sent < count or in_flight:
        while sent < count and len(in_flight) < window:
            sent += 1
            in_flight[sent] = True
            message = Message(
                body,
                message_id=f"{sent:036}",
                content_type=content_type,
                delivery_mode=2,
                application_headers=headers,
            )
            channel.basic_publish(message, exchange="bench", routing_key=topic, mandatory=True)
        drain(timeout=30)
    seconds, cpu = time.monotonic() - started, time.process_time() - cpu
    connection.release()
    print(json.dumps({"messages": count, "seconds": seconds, "cpu": cpu}))


if __name__ == "__main__":
    django.setup()

    from amqp.basic_message import Message

    from benchmarks.service.events import placed
    from outbox import amqp, wire
    from outbox.conf import outbox_settings
    from outbox.emitting import Draft, wrap

    main(int(sys.argv[1]), int(sys.argv[2]))
