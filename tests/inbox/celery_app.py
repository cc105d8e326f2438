"""A Celery application for tests with real workers.

BROKER_URL     where its tasks are sent
TEST_TASKS     its queue
TEST_RESULTS   a directory for results
TEST_STEP      groups of handlers that its workers consume for, joined by commas
"""

import os

from celery import Celery

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.settings")

from inbox.celery import ConsumeStep

app = Celery("tests")
app.conf.update(
    broker_url=os.environ.get("BROKER_URL") or "memory://",
    broker_connection_retry_on_startup=True,
    result_backend=f"file://{os.environ['TEST_RESULTS']}" if "TEST_RESULTS" in os.environ else None,
    task_default_queue=os.environ.get("TEST_TASKS", "tests-tasks"),
    task_acks_late=True,
    task_reject_on_worker_lost=True,
    include=["tests.inbox.celery_tasks"],
)
if "TEST_STEP" in os.environ:
    app.conf.inbox_groups = os.environ["TEST_STEP"].split(",")
    app.steps["worker"].add(ConsumeStep)
