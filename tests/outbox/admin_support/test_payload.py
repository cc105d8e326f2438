"""Payloads as a person sees them."""

import json

import pytest
from django.test import override_settings

from outbox.admin_support import payload
from outbox.admin_support.payload import hex_dump, mentioned, pretty, redacted, show_data
from outbox.conf import outbox_settings
from outbox.exceptions import ConfigurationError

pytestmark = pytest.mark.sqlite


def test_json_is_indented() -> None:
    """One member a line, in the order of the sender, characters as they are."""
    assert pretty(b'{"b":1,"a":["\xc3\xa9"]}', ()) == '{\n  "b": 1,\n  "a": [\n    "é"\n  ]\n}'


@pytest.mark.parametrize(
    "key", ["password", "PASSWORD", "userPassword", "password_hash", "api-key", "API_KEY"]
)
def test_secrets_are_hidden_by_part_of_their_key(key: str) -> None:
    """A word of REDACT hides the value of every key that contains it, in any case."""
    assert redacted({key: "hunter2"}, ("password", "api_key")) == {key: payload.HIDDEN}


def test_secrets_are_hidden_at_any_depth() -> None:
    """Lists and nested objects are searched; a hidden value may be an object itself."""
    found = redacted(
        {"users": [{"name": "Ada", "token": {"value": "s3cret"}}], "tokens": ["s3cret"]},
        ("token",),
    )

    assert found == {"users": [{"name": "Ada", "token": "•••"}], "tokens": "•••"}


def test_show_data_redacts_and_escapes() -> None:
    """What a sender puts into a payload reaches the page as text, without its secrets."""
    html = str(
        show_data(b'{"note": "<script>alert(1)</script>", "iban": "DE89"}', "text/json+json")
    )

    assert "&lt;script&gt;" in html
    assert "<script>" not in html
    assert "DE89" not in html


def test_data_that_is_not_json_is_dumped() -> None:
    """Bytes are shown in hexadecimal, with their number."""
    html = str(show_data(b"\x89PNG\r\n<", "image/png"))

    assert "89 50 4e 47 0d 0a 3c" in html
    assert "|.PNG..&lt;|" in html
    assert "image/png, 7 bytes" in html


@pytest.mark.parametrize("data", [b'{"password": "hunter2"', '"Token": hunter2'.encode("utf-16")])
def test_malformed_data_with_a_secret_is_not_shown(data: bytes) -> None:
    """What cannot be parsed cannot be redacted: it is hidden as soon as it mentions a secret."""
    html = str(show_data(data, "application/json"))

    assert "68 75 6e" not in html
    assert "68 00 75" not in html
    assert "malformed JSON; not shown" in html


def test_malformed_data_without_a_secret_is_dumped() -> None:
    """A person can see what broke it."""
    assert "|{&quot;order&quot;: |" in str(show_data(b'{"order": ', "application/json"))


def test_deep_nesting_does_no_harm() -> None:
    """JSON too deep for the parser is shown as what it is."""
    assert "malformed JSON" in str(show_data(b"[" * 200_000, "application/json"))


def test_long_json_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the first characters are shown, and the page says so."""
    monkeypatch.setattr(payload, "SHOWN", 20)
    html = str(show_data(json.dumps({"a": "x" * 50, "z": "end"}).encode(), "application/json"))

    assert "x" * 5 in html
    assert "end" not in html
    assert "the first 20 characters shown" in html


def test_huge_data_is_not_even_parsed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither shown nor dumped, since nobody knows what it contains."""
    monkeypatch.setattr(payload, "READ", 10)

    assert show_data(b'{"password": "hunter2"}', "application/json") == (
        "application/json, 23 bytes: too large to show"
    )


def test_hex_dump_is_that_of_the_tool() -> None:
    """Offset, sixteen bytes, their characters."""
    assert hex_dump(bytes(range(60, 78))).splitlines() == [
        "00000000  3c 3d 3e 3f 40 41 42 43 44 45 46 47 48 49 4a 4b  |<=>?@ABCDEFGHIJK|",
        "00000010  4c 4d                                            |LM|",
    ]


def test_mentioned_finds_words_in_any_case() -> None:
    """The first word of the setting that occurs, or None."""
    assert mentioned(b"x-Api-Key: 1", ("password", "api_key")) == "api_key"
    assert mentioned(b"nothing", ("password",)) is None


def test_redact_is_a_setting() -> None:
    """OUTBOX['REDACT'] replaces the words."""
    with override_settings(OUTBOX={"REDACT": ["colour"]}):
        html = str(show_data(b'{"colour": "red", "password": "blue"}', "application/json"))

    assert "red" not in html
    assert "blue" in html


@pytest.mark.parametrize("value", ["password", [1], [""], None, {"password"}])
def test_a_wrong_redact_is_refused(value: object) -> None:
    """A single string would hide every key that has one of its letters."""
    with (
        override_settings(OUTBOX={"REDACT": value}),
        pytest.raises(ConfigurationError, match="REDACT"),
    ):
        outbox_settings()
