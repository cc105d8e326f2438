"""Settings: typed, checked, read live."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.test import override_settings

from outbox.conf import OutboxSettings, outbox_settings, parse, project_name
from outbox.exceptions import ConfigurationError, UnusableSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    NAME: str = ""
    COUNT: int = 1
    SECONDS: float = 1.0
    ON: bool = True
    OPTIONS: Mapping[str, Any] = field(default_factory=dict)


def test_defaults():
    """Every setting has a default, and OUTBOX need not be set at all."""
    assert parse(OutboxSettings, {}, "OUTBOX") == OutboxSettings()
    with override_settings(OUTBOX={}):
        del settings.OUTBOX
        outbox_settings.cache_clear()
        assert outbox_settings() == OutboxSettings()


def test_live():
    """override_settings is in effect at once, and over with its block."""
    before = outbox_settings()
    with override_settings(OUTBOX={"LANES": 7, "SOURCE": "/x"}):
        assert outbox_settings().LANES == 7
        with override_settings(OUTBOX={"LANES": 9}):
            assert outbox_settings().LANES == 9
        assert outbox_settings().LANES == 7
    assert outbox_settings() == before


def test_other_settings():
    """Settings of others do not cost us a second look."""
    before = outbox_settings()
    with override_settings(SITE_ID=5):
        assert outbox_settings() is before


def test_source():
    """Without SOURCE the name of the project's package stands in."""
    with override_settings(OUTBOX={}, ROOT_URLCONF="bookshop.config.urls"):
        assert project_name() == "bookshop"
        assert outbox_settings().source == "/bookshop"
    with override_settings(OUTBOX={"SOURCE": "urn:shop"}):
        assert outbox_settings().source == "urn:shop"


def test_unknown_keys():
    """A misspelt key is an error that lists the known ones."""
    with pytest.raises(
        ConfigurationError,
        match=r"unknown keys: LANE, sauce\. Known: CELERY_OUTSIDE, CORRELATION_HEADER, LANES",
    ):
        parse(OutboxSettings, {"sauce": 1, "LANE": 2, "LANES": 3}, "OUTBOX")


@pytest.mark.parametrize("raw", [None, [], "x", 7, {("a", 1)}])
def test_not_a_dict(raw: object):
    """Settings are a dict."""
    with pytest.raises(ConfigurationError, match="OUTBOX must be a dict"):
        parse(OutboxSettings, raw, "OUTBOX")


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("NAME", 1, "a string, not int"),
        ("NAME", None, "a string, not NoneType"),
        ("NAME", b"x", "a string, not bytes"),
        ("COUNT", "1", "a whole number, not str"),
        ("COUNT", 1.0, "a whole number, not float"),
        ("COUNT", True, "a whole number, not bool"),
        ("SECONDS", "1", "a number, not str"),
        ("SECONDS", False, "a number, not bool"),
        ("ON", 1, "True or False, not int"),
        ("ON", "yes", "True or False, not str"),
    ],
)
def test_wrong_types(name: str, value: object, expected: str):
    """A value of the wrong type is an error that names key and types."""
    with pytest.raises(ConfigurationError, match=f"WHERE\\['{name}'\\] must be {expected}"):
        parse(Example, {name: value}, "WHERE")


def test_everything_that_is_wrong_is_told_at_once():
    """One error with a text for each flaw: unknown keys, wrong types, values out of range."""
    with pytest.raises(UnusableSettings) as caught:
        parse(
            OutboxSettings,
            {"LANE": 2, "LANES": "4", "MAX_DATA_BYTES": 0, "SOURCE": "my shop"},
            "OUTBOX",
        )

    unknown, lanes, size, source = caught.value.flaws
    assert unknown.startswith("OUTBOX has unknown keys: LANE.")
    assert lanes == "OUTBOX['LANES'] must be a whole number, not str: '4'"
    assert size == "OUTBOX['MAX_DATA_BYTES'] must be positive, not 0"
    assert source.startswith("OUTBOX['SOURCE'] must be a URI reference")
    assert str(caught.value) == "\n".join(caught.value.flaws)


def test_a_wrong_type_does_not_hide_the_rest():
    """Its default stands in for it while the others are looked at."""
    with pytest.raises(UnusableSettings) as caught:
        parse(OutboxSettings, {"LANES": None, "RETENTION": -1}, "OUTBOX")

    assert [flaw.partition(" ")[0] for flaw in caught.value.flaws] == [
        "OUTBOX['LANES']",
        "OUTBOX['RETENTION']",
    ]


@pytest.mark.parametrize("value", ["amqp://shop:s3cret@host//", {"password": "s3cret"}])
def test_what_could_be_a_secret_is_not_shown(value: object):
    """A URL or a dict in the wrong place is told by its type alone."""
    with pytest.raises(ConfigurationError) as caught:
        parse(Example, {"COUNT": value}, "WHERE")

    assert str(caught.value) == f"WHERE['COUNT'] must be a whole number, not {type(value).__name__}"


def test_right_types():
    """Whole numbers serve as numbers; containers are left to their class."""
    found = parse(Example, {"SECONDS": 2, "OPTIONS": {"a": 1}, "ON": False}, "WHERE")
    assert found == Example(SECONDS=2, OPTIONS={"a": 1}, ON=False)


@pytest.mark.parametrize(
    "raw",
    [
        {"LANES": 0},
        {"LANES": 1025},
        {"LANES": -1},
        {"MAX_DATA_BYTES": 0},
        {"SOURCE": "x" * 256},
        {"SOURCE": "\0"},
        {"SOURCE": "a\nb"},
        {"SOURCE": "\ud800"},
        {"SOURCE": "my shop"},
        {"SOURCE": "/größe"},
        {"SOURCE": "/100%"},
        {"SOURCE": "1shop:a"},
        {"SOURCE": "/a#b#c"},
        {"SOURCE": "/a[1]"},
        {"REDACT": "password"},
        {"REDACT": [""]},
        {"REDACT": [7]},
    ],
    ids=repr,
)
def test_out_of_range(raw: dict[str, object]):
    """Values that could not work are refused, by name."""
    with pytest.raises(ConfigurationError, match=rf"OUTBOX\['{next(iter(raw))}'\]"):
        parse(OutboxSettings, raw, "OUTBOX")


@pytest.mark.parametrize(
    "source",
    [
        "/shop",
        "shop",
        "urn:uuid:6e8bc430-9c3a-11d9-9669-0800200c9a66",
        "https://[::1]:8000/a%20b?x=/1#y",
        "mailto:shop@example.com",
        "//example.com/shop;v=1",
        "./a:b",
    ],
)
def test_sources(source: str):
    """Any URI reference can be the source, with or without a scheme."""
    assert OutboxSettings(SOURCE=source).source == source


@pytest.mark.parametrize("raw", [{"LANES": 1}, {"LANES": 1024}, {"MAX_DATA_BYTES": 1}])
def test_in_range(raw: dict[str, object]):
    """The limits themselves are allowed."""
    assert parse(OutboxSettings, raw, "OUTBOX")


def test_errors_are_improperly_configured():
    """Django's commands show these errors without a traceback."""
    assert issubclass(ConfigurationError, ImproperlyConfigured)
