"""Nothing reaches a real broker in tests, unless they say so."""

import threading
import unittest
from collections.abc import Iterator
from typing import Any
from unittest import mock

import pytest
from django.core.management import CommandError, call_command
from django.db import transaction
from django.test import TestCase, override_settings
from kombu import Connection, Producer

import outbox
from outbox.exceptions import NotInTests
from outbox.guards import guard
from outbox.testing import NoBrokerMixin, allow_broker, no_broker, sent_tasks
from tests.kit.support import Counted
from tests.outbox.celery.support import NOWHERE, new_app
from tests.outbox.testing.test_emissions import close

STRAIGHT = "would go straight to the broker at amqp://127.0.0.1:1//"


@pytest.fixture
def guarded() -> Iterator[None]:
    """What the plugin does where it is not switched off."""
    with no_broker():
        yield


def new_task(**conf: Any) -> Any:
    return new_app(**conf).task(name="tests.close")(close)


@pytest.mark.django_db
@pytest.mark.usefixtures("guarded")
class TestTasks:
    """A task that goes past the outbox is a mistake that no other test would find."""

    def test_outside_a_transaction(self) -> None:
        """Fails at once and says what to do; the transaction around the test is nobody's."""
        with pytest.raises(NotInTests) as failure:
            new_task().delay(1)

        assert STRAIGHT in str(failure.value)
        for advice in ("transaction.atomic()", "sent_tasks()", "outbox_broker", "allow_broker()"):
            assert advice in str(failure.value)

    def test_by_any_way(self) -> None:
        """By name, with outbox=False, in a transaction as well, and after the commit."""
        task = new_task()
        with pytest.raises(NotInTests):
            task.app.send_task("tests.other")
        with pytest.raises(NotInTests), transaction.atomic():
            task.apply_async((1,), outbox=False)
        with pytest.raises(NotInTests), TestCase.captureOnCommitCallbacks(execute=True):
            task.delay_on_commit(1)

    def test_in_any_thread(self) -> None:
        """As a view has one that runs in a pool."""
        raised: list[BaseException] = []

        def send() -> None:
            try:
                task.delay(1)
            except NotInTests as exc:
                raised.append(exc)

        task = new_task()
        thread = threading.Thread(target=send)
        thread.start()
        thread.join()
        assert len(raised) == 1

    def test_what_is_within_the_process(self) -> None:
        """The outbox, eager tasks, kombu's memory and stand-ins of the test's own are fine."""
        with transaction.atomic():
            new_task().delay(1)
        assert new_task(task_always_eager=True).delay(1).successful()
        new_task(broker_url="memory://").delay(1)
        with Connection("memory://") as link:
            new_task().apply_async((1,), producer=Producer(link))
        new_task().apply_async((1,), producer=mock.MagicMock())

        assert len(sent_tasks()) == 1

    def test_where_it_is_allowed(self) -> None:
        """It is tried; nobody listens there."""
        with allow_broker(), pytest.raises(Exception, match="refused") as failure:
            new_task().delay(1)
        assert not isinstance(failure.value, NotInTests)
        with pytest.raises(NotInTests):
            new_task().delay(1)


@pytest.mark.django_db
@pytest.mark.usefixtures("guarded")
class TestRelayInATestCase:
    """It publishes what has committed, and here nothing does."""

    @pytest.mark.timeout(5)
    @pytest.mark.parametrize("option", ["--until-empty", "--once"])
    def test_it_fails_at_once(self, option: str) -> None:
        """And says what to use, where it would wait for what never comes."""
        with transaction.atomic():
            outbox.emit(Counted("a", 1))

        with pytest.raises(CommandError, match=r"outbox\.testing\.drain\(\)"):
            call_command("relay", option, verbosity=0)

    @pytest.mark.parametrize("option", ["--all", "--dry-run"])
    def test_so_does_a_replay(self, option: str) -> None:
        """No relay can have published anything that it could publish again."""
        with pytest.raises(CommandError, match=r"relay_replay.*outbox\.testing\.drain\(\)"):
            call_command("relay_replay", "--all", option, verbosity=0)


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("guarded")
class TestBrokers:
    """Where transactions commit a relay runs, and it is the broker that must not be a real one."""

    def test_the_local_broker(self) -> None:
        """Needs no server, and is fine."""
        with transaction.atomic():
            outbox.emit(Counted("a", 1))
        call_command("relay", "--until-empty", verbosity=0)

    @pytest.mark.timeout(10)
    @pytest.mark.parametrize(
        ("backend", "url"),
        [
            ("relay.brokers.amqp.AMQPBroker", "amqp://user:hidden@127.0.0.1:1//"),
            ("relay.brokers.kombu.KombuBroker", "redis://:hidden@127.0.0.1:1/0"),
        ],
    )
    def test_a_real_broker(self, backend: str, url: str) -> None:
        """Is not reached, nor tried again; the error names it without its password."""
        relays = {"default": {"BACKEND": backend, "URL": url, "MESSAGES": "tasks"}}
        with override_settings(RELAYS=relays), pytest.raises(CommandError) as failure:
            call_command("relay", "--until-empty", verbosity=0)

        assert "127.0.0.1:1" in str(failure.value)
        assert "outbox.testing.drain()" in str(failure.value)
        assert "hidden" not in str(failure.value)

    @pytest.mark.timeout(10)
    def test_a_consumer(self) -> None:
        """As little as a relay."""
        relays = {"default": {"BACKEND": "relay.brokers.amqp.AMQPBroker", "URL": NOWHERE}}
        inbox = {"URL": NOWHERE, "GROUP": "tests"}
        with override_settings(RELAYS=relays, INBOX=inbox), pytest.raises(CommandError) as failure:
            call_command("consume", "--group", "tests", "--until-empty", verbosity=0)

        assert "127.0.0.1:1" in str(failure.value)


def test_the_mixin() -> None:
    """Guards the tests of a class, and ends with them; without pytest."""
    seen = []

    class Guarded(NoBrokerMixin, unittest.TestCase):
        def test(self) -> None:
            with pytest.raises(NotInTests):
                guard().connects("amqp://somewhere")
            seen.append(True)

    result = unittest.TestResult()
    unittest.defaultTestLoader.loadTestsFromTestCase(Guarded).run(result)

    assert result.wasSuccessful(), result
    assert seen == [True]
    guard().connects("amqp://somewhere")
