"""A bare loop without a database: `publish COUNT WINDOW amqp|frames`.

What the relay sends, each message built anew, as fast as the client allows: py-amqp's own publish,
or the relay's own frames. The ceiling of Python.
"""

import json
import os
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import django


def main(count: int, window: int, client: str) -> None:
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
    send, drain = CLIENTS[client](channel), channel.connection.drain_events
    started, cpu = time.monotonic(), time.process_time()
    sent = 0
    while sent < count or in_flight:
        new = range(sent + 1, min(count, sent + window - len(in_flight)) + 1)
        in_flight.update(dict.fromkeys(new, True))
        send(new)
        sent += len(new)
        drain(timeout=30)
        with suppress(TimeoutError):
            while True:
                drain(timeout=0)
    seconds, cpu = time.monotonic() - started, time.process_time() - cpu
    connection.release()
    print(json.dumps({"messages": count, "seconds": seconds, "cpu": cpu}))


def with_amqp(channel: Any) -> Callable[[range], None]:
    """Publish as py-amqp does."""
    headers = cloudevents.to_headers(ENVELOPE)

    def send(numbers: range) -> None:
        for number in numbers:
            message = Message(
                ENVELOPE.data,
                message_id=f"{number:036}",
                content_type=ENVELOPE.content_type,
                delivery_mode=2,
                application_headers=headers,
            )
            channel.basic_publish(
                message, exchange="bench", routing_key=ENVELOPE.topic, mandatory=True
            )

    return send


def with_frames(channel: Any) -> Callable[[range], None]:
    """Pack and write as the relay does."""
    frames = Frames(
        channel.channel_id, channel.connection.frame_max, exchange="bench", mandatory=True
    )
    write = channel.connection.transport.write

    def send(numbers: range) -> None:
        parts = [frames.pack(replace(ENVELOPE, id=f"{number:036}")) for number in numbers]
        write(b"".join(parts))

    return send


CLIENTS = {"amqp": with_amqp, "frames": with_frames}

if __name__ == "__main__":
    django.setup()

    from amqp.basic_message import Message
    from msgspec.structs import replace

    from benchmarks.service.events import placed
    from outbox.amqp import connection as amqp
    from outbox.conf import outbox_settings
    from outbox.message import cloudevents
    from outbox.producer.drafting import Draft, wrap
    from relay.brokers.amqp.frames import Frames

    [event] = placed(range(1))
    ENVELOPE = wrap(Draft(event=event), outbox_settings())
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3])
