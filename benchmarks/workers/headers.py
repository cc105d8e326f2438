"""Print the headers of a message, for clients that know no envelopes."""

import json

import django

if __name__ == "__main__":
    django.setup()

    from benchmarks.service.events import placed
    from outbox.conf import outbox_settings
    from outbox.message import cloudevents
    from outbox.producer.drafting import Draft, wrap

    [event] = placed(range(1))
    print(json.dumps(cloudevents.to_headers(wrap(Draft(event=event), outbox_settings()))))
