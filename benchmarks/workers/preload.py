"""Fill the queue: `preload MESSAGES COPIES`. Each page comes COPIES times, a page apart.

The last message of all, of number -1, tells when the queue is done with.
"""

import json
import os
import sys

import django

PAGE = 1000


def main(messages: int, copies: int) -> None:
    broker = AMQPBroker(os.environ["BROKER_URL"], AMQPOptions(EXCHANGE="bench"))
    conf = outbox_settings()
    pages = [
        created(
            [
                wrap(Draft(event=event), conf)
                for event in placed(range(start, min(start + PAGE, messages // copies)))
            ]
        )
        for start in range(0, messages // copies, PAGE)
    ]
    last = wrap(Draft(event=Placed("last", -1, "last")), conf)
    before: list[list[Envelope]] = [[]] * (copies - 1)
    for page in [*pages, *before]:
        for each in (page, *before):
            publish(broker, each)
        before = [page, *before[:-1]] if before else before
    publish(broker, [last])
    broker.close()
    print(json.dumps({"messages": copies * sum(map(len, pages))}))


def publish(broker: "AMQPBroker", page: "list[Envelope]") -> None:
    outcomes = broker.publish(page)
    if any(outcome.status is not Status.CONFIRMED for outcome in outcomes):
        sys.exit(f"not confirmed: {set(outcomes)}")


if __name__ == "__main__":
    django.setup()

    from benchmarks.service.events import Placed, placed
    from outbox.conf import outbox_settings
    from outbox.message.envelope import Envelope
    from outbox.producer.drafting import Draft, wrap
    from outbox.tracing.hooks import created
    from relay.brokers.amqp.broker import AMQPBroker
    from relay.brokers.amqp.options import AMQPOptions
    from relay.brokers.base import Status

    main(int(sys.argv[1]), int(sys.argv[2]))
