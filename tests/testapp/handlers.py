"""What the test app does about its event.

TEST_FAIL names a number that it fails on, or "all"; TEST_KILL one that ends its process. In
TEST_FILE it leaves a line outside the database for each call, which takes TEST_SECONDS.
"""

import os
import signal
import time
from pathlib import Path

from django.conf import settings

from inbox import handler
from outbox import Envelope
from tests.testapp.events import Happened
from tests.testapp.models import Effect

RECORD = "tests.record"


@handler(Happened, name=RECORD, group=getattr(settings, "TEST_GROUP", "tests"))
def record(event: Happened, message: Envelope) -> None:
    if os.environ.get("TEST_FAIL") in ("all", str(event.number)):
        raise RuntimeError("failed as the test asked")
    if os.environ.get("TEST_KILL") == str(event.number):
        os.kill(os.getpid(), signal.SIGKILL)
    if path := os.environ.get("TEST_FILE"):
        with Path(path).open("a") as file:
            file.write(f"{event.number}\n")
        time.sleep(float(os.environ["TEST_SECONDS"]))
    Effect.objects.create(key=event.key, number=event.number, message_id=message.id, handler=RECORD)
