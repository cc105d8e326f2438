"""Settings from environment variables."""

import pytest
from django.core.exceptions import ImproperlyConfigured

from project import environment

pytestmark = pytest.mark.sqlite


@pytest.mark.parametrize(
    ("value", "expected"), [("1", True), ("True", True), ("on", True), ("0", False), ("no", False)]
)
def test_a_flag_is_set_by_the_usual_words(
    monkeypatch: pytest.MonkeyPatch, value: str, expected: bool
):
    """The usual spellings of true and false are understood."""
    monkeypatch.setenv("SOME_FLAG", value)

    assert environment.flag("SOME_FLAG", default=not expected) is expected


@pytest.mark.parametrize("default", [True, False])
def test_an_empty_flag_has_its_default(monkeypatch: pytest.MonkeyPatch, default: bool):
    """A variable that is set to nothing counts as not set."""
    monkeypatch.setenv("SOME_FLAG", " ")

    assert environment.flag("SOME_FLAG", default=default) is default


def test_an_unclear_flag_is_refused(monkeypatch: pytest.MonkeyPatch):
    """DEBUG=flase must not switch on what it was meant to switch off."""
    monkeypatch.setenv("SOME_FLAG", "flase")

    with pytest.raises(ImproperlyConfigured, match="SOME_FLAG"):
        environment.flag("SOME_FLAG", default=True)


def test_names_are_separated_by_commas(monkeypatch: pytest.MonkeyPatch):
    """Spaces and empty items do not matter."""
    monkeypatch.setenv("SOME_NAMES", "a.example, b.example,")

    assert environment.names("SOME_NAMES") == ["a.example", "b.example"]


def test_pairs_have_a_name_and_a_value(monkeypatch: pytest.MonkeyPatch):
    """What follows the first equals sign is the value, whatever it has."""
    monkeypatch.setenv("SOME_PAIRS", "a=http://a/?b=c, b = http://b,")

    assert environment.pairs("SOME_PAIRS") == {"a": "http://a/?b=c", "b": "http://b"}
