"""Choosing a broker for the tests."""

import subprocess
from pathlib import Path

import pytest

from tests.kit.services import broker, debian, rabbitmq

pytestmark = pytest.mark.sqlite


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No variable of the real environment decides these tests."""
    for name in ("BROKER_URL", "TEST_BROKER", "CI"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def nothing_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without RabbitMQ that cannot install it."""
    monkeypatch.setattr(rabbitmq, "find_server", lambda: None)
    monkeypatch.setattr(debian, "can_install", lambda: False)


def test_the_named_broker_comes_first(monkeypatch: pytest.MonkeyPatch):
    """BROKER_URL is used even where another broker answers."""
    monkeypatch.setenv("BROKER_URL", "amqp://elsewhere//")
    monkeypatch.setattr(rabbitmq, "answers", lambda url: True)

    assert broker.running_url() == "amqp://elsewhere//"


def test_a_named_broker_that_is_away_is_an_error(monkeypatch: pytest.MonkeyPatch):
    """Nobody who names a broker wants the tests to use another one silently."""
    monkeypatch.setenv("BROKER_URL", "amqp://elsewhere//")
    monkeypatch.setattr(rabbitmq, "answers", lambda url: False)

    with pytest.raises(pytest.fail.Exception, match="BROKER_URL"):
        broker.running_url()


@pytest.mark.parametrize(("answers", "url"), [(True, broker.LOCAL_URL), (False, None)])
def test_a_broker_on_this_machine_is_next(
    monkeypatch: pytest.MonkeyPatch, answers: bool, url: str | None
):
    """The standard port is used if it lets us in."""
    monkeypatch.setattr(rabbitmq, "answers", lambda url: answers)

    assert broker.running_url() == url


def test_a_private_broker_can_be_demanded(monkeypatch: pytest.MonkeyPatch):
    """TEST_BROKER=private passes over every running broker."""
    monkeypatch.setenv("TEST_BROKER", "private")
    monkeypatch.setenv("BROKER_URL", "amqp://elsewhere//")
    monkeypatch.setattr(rabbitmq, "answers", lambda url: True)

    assert broker.running_url() is None


def test_without_any_broker_tests_are_skipped(nothing_installed: None):
    """A developer's machine may be without RabbitMQ."""
    with pytest.raises(pytest.skip.Exception, match="no RabbitMQ"):
        broker.ensure_installed()


def test_without_any_broker_ci_fails(monkeypatch: pytest.MonkeyPatch, nothing_installed: None):
    """CI must not pass without having tested the broker."""
    monkeypatch.setenv("CI", "1")

    with pytest.raises(pytest.fail.Exception, match="no RabbitMQ"):
        broker.ensure_installed()


def test_a_failed_installation_is_explained(
    monkeypatch: pytest.MonkeyPatch, nothing_installed: None
):
    """What the package manager said is part of the reason."""

    def fail() -> None:
        raise subprocess.CalledProcessError(100, "apt-get", output="E: no network")

    monkeypatch.setattr(debian, "can_install", lambda: True)
    monkeypatch.setattr(debian, "install_rabbitmq", fail)

    with pytest.raises(pytest.skip.Exception, match="E: no network"):
        broker.ensure_installed()


def test_installing_does_not_start_the_system_node(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """A policy forbids it for as long as the installation takes."""
    policy = tmp_path / "policy-rc.d"
    monkeypatch.setattr(debian, "_POLICY", policy)
    during = []
    monkeypatch.setattr(
        debian, "_run", lambda command: during.append((command[-1], policy.read_text()))
    )

    debian.install_rabbitmq()

    forbids = "#!/bin/sh\nexit 101\n"
    assert during == [("update", forbids), ("rabbitmq-server", forbids)]
    assert not policy.exists()
