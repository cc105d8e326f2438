"""The writers of the demo."""

import threading

import pytest

from project.demo.truth import Truth
from project.demo.writers import Gate, Writer
from project.shop.factories import OrderFactory


def test_the_gate_holds_the_writers_at_its_marks():
    """Work up to a mark needs nothing; work behind it waits until the mark is opened."""
    gate = Gate(3)
    gate.wait(0.2)
    passed = threading.Event()

    def pass_two_marks() -> None:
        gate.wait(0.5)
        passed.set()

    thread = threading.Thread(target=pass_two_marks)
    thread.start()
    gate.open_next()
    assert not passed.wait(0.05)
    gate.open_next()
    thread.join(10)
    assert passed.is_set()


@pytest.mark.django_db(transaction=True)
def test_a_writer_places_its_share():
    """Every order that it was assigned is either committed or rolled back."""
    truth = Truth()
    writer = Writer("test", seed=1, truth=truth, stop=threading.Event()).assign(12, Gate(0))
    writer.start()
    writer.join(60)

    assert writer.error is None
    assert len(truth.tried) == 12


def test_the_error_of_a_writer_is_kept(monkeypatch):
    """Whoever waits for the writer can tell that it failed."""

    def fail(**_: object) -> None:
        raise RuntimeError("no orders today")

    monkeypatch.setattr(OrderFactory, "build", fail)
    writer = Writer("test", seed=1, truth=Truth(), stop=threading.Event()).assign(1, Gate(0))
    writer.start()
    writer.join(10)

    assert str(writer.error) == "no orders today"
