"""What a worker sends goes to the broker, whatever is said of tasks outside of transactions."""

import uuid

import pytest

from tests.kit.processes import Process
from tests.outbox.celery.script import APP, Script
from tests.test_public_api import python

WORKER = """
import django
django.setup()
import threading
import outbox
from celery import chain
from celery.contrib.testing.worker import start_worker
from tests.outbox.celery.script_app import app, add, twice

ran = []
done = threading.Event()

@app.task(name="script.note")
def note(number):
    ran.append(number)
    if len(ran) == {expected}:
        done.set()

@app.task(name="script.parent")
def parent(number):
    note.delay(number)  # outside of a transaction: a worker's goes to the broker
    return number

@app.task(name="script.nested")
def nested(number):
    note.apply_async((number,))
    parent.apply((number + 1,))

def refused():
    try:
        add.delay(1)
    except outbox.TransactionRequired:
        return True
    return False

print("before", refused())
with start_worker(app, pool={pool!r}, perform_ping_check=False, shutdown_timeout=60):
    print("beside", refused())
    parent.apply_async((1,), outbox=False)
    chain(parent.s(2), note.s()).apply_async(outbox=False)
    nested.apply_async((3,), outbox=False)
    assert done.wait(50), ran
    print("beside", refused())
print("after", refused())
print(sorted(ran))
"""


@pytest.mark.slow
@pytest.mark.parametrize("pool", ["solo", "threads"])
def test_an_embedded_worker_changes_nothing_for_the_others(script: Script, pool: str) -> None:
    """As pytest's celery_worker: what it sends is a worker's, what the test sends is not."""
    printed = python(
        WORKER.format(pool=pool, expected=5),
        **script.environment("error") | {"DATABASE_URL": "sqlite:///:memory:"},
    )

    assert printed.splitlines() == [
        "before True",
        "beside True",
        "beside True",
        "after True",
        "[1, 2, 2, 3, 4]",
    ]


class Worker(Process):
    program = ("-m", "celery", "-A", APP, "worker", "--without-gossip", "--without-mingle")


@pytest.mark.slow
@pytest.mark.parametrize("pool", ["prefork", "threads", "solo"])
@pytest.mark.parametrize("outside", ["error", "own"])
def test_a_worker_sends_to_the_broker(script: Script, pool: str, outside: str) -> None:
    """Its tasks do, outside of transactions; so does it by itself, for a process that died."""
    environment = script.environment(outside) | {"DATABASE_URL": "sqlite:///:memory:"}
    name = f"{uuid.uuid4()}@localhost"
    with Worker("-n", name, "-P", pool, "-c", "1", "-l", "INFO", **environment) as worker:
        worker.wait_for(lambda: " ready." in worker.output)
        script.run("from tests.outbox.celery.script_app import twice; twice.delay(3)")
        worker.wait_for(lambda: "noted: (3, 3)" in worker.output)
        if pool == "prefork":
            script.run("app.send_task('script.die', link_error=app.signature('script.failed'))")
            worker.wait_for(lambda: "noted: failed" in worker.output)
