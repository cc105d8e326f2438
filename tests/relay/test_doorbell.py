"""The doorbell when something is wrong with it."""

from collections.abc import Iterator

import pytest
from django.db import connection

from outbox.runtime.shutdown import Shutdown
from relay.doorbell import Doorbell

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def shutdown() -> Iterator[Shutdown]:
    with Shutdown() as made:
        yield made


@pytest.fixture
def doorbell(shutdown: Shutdown) -> Iterator[Doorbell]:
    made = Doorbell("default", shutdown, listen=True)
    made.connect()
    yield made
    made.close()


def test_a_session_that_the_server_ended_is_let_go(
    doorbell: Doorbell, caplog: pytest.LogCaptureFixture
) -> None:
    """The server ends the listening session, whatever for: no ring, one warning, no exception."""
    assert doorbell._connection is not None
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT pg_terminate_backend(%s, 10000)",
            [doorbell._connection.connection.info.backend_pid],
        )

    assert not doorbell.wait(10)
    assert not doorbell.wait(0)
    assert caplog.text.count("polling instead") == 1


def test_a_mistake_is_not_taken_for_a_lost_session(
    doorbell: Doorbell, shutdown: Shutdown, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the database did not say is no outage: it is raised, not hidden behind polling."""

    def mistake(seconds: float, *sources: int) -> bool:
        raise RuntimeError("a mistake")

    monkeypatch.setattr(shutdown, "wait", mistake)
    with pytest.raises(RuntimeError, match="a mistake"):
        doorbell.wait(0)
