"""What it costs to read a conversation: three statements for each thousand of its messages."""

import pytest
from django.db import connection, transaction
from django.test import override_settings
from django.test.utils import CaptureQueriesContext

import outbox
from inbox.reports import flow as of_inbox
from outbox.flow.loading import read
from relay.log import open_log
from relay.reports import flow as of_relay
from relay.transfer import transfer
from tests.inbox.support import Handling
from tests.kit import every_page
from tests.kit.support import Counted, RecordingBroker

pytestmark = pytest.mark.django_db(transaction=True)
AT_ONCE = 10


def _conversation(messages: int) -> str:
    """Make a conversation of which all is published, and return its name."""
    with transaction.atomic():
        root = outbox.emit(Counted("root", 0))
    context = {"correlation_id": root.correlation_id, "causation_id": root.id}
    with outbox.use_context(**context), transaction.atomic():
        outbox.emit_many([Counted(f"k{number}", number) for number in range(messages - 1)])
    transfer(open_log("default", using="default"), RecordingBroker(), 0, 1_000)
    assert root.correlation_id is not None
    return root.correlation_id


@override_settings(**every_page.SETTINGS)
def test_statements_grow_by_three_for_a_thousand(
    handling: Handling, monkeypatch: pytest.MonkeyPatch
) -> None:
    """States and parked rows of the relays, and dead letters; receipts are one statement."""
    for module in (of_relay, of_inbox):
        monkeypatch.setattr(module, "AT_ONCE", AT_ONCE)
    counts = []
    for messages in (AT_ONCE, 4 * AT_ONCE):
        name = _conversation(messages)
        with CaptureQueriesContext(connection) as queries:
            half = read(name, "default")
        assert len(half.sent) == messages
        counts.append(len(queries))

    assert counts[1] - counts[0] == 3 * 3


@override_settings(**every_page.SETTINGS)
def test_no_more_rows_are_read_than_its_limit_and_one(handling: Handling) -> None:
    """That one says that there are more."""
    name = _conversation(40)

    with CaptureQueriesContext(connection) as queries:
        half = read(name, "default", limit=5)

    assert (len(half.sent), half.cut_at) == (5, 5)
    of_log = [each["sql"] for each in queries if 'ORDER BY "django_outbox_message"' in each["sql"]]
    assert [sql.rpartition("LIMIT ")[2] for sql in of_log] == ["6"]
