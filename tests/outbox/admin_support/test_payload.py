"""Payloads as a person sees them."""

import json
import re
from typing import Any

import pytest
from django.test import override_settings
from hypothesis import given
from hypothesis import strategies as st

from outbox.admin_support import payload
from outbox.admin_support.payload import (
    hex_dump,
    mentioned,
    pretty,
    redacted,
    show_data,
    show_json,
)
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


@pytest.mark.parametrize("content_type", ["text/plain", "text/plain; charset=UTF-8", "Text/CSV"])
def test_text_is_shown_as_text(content_type: str) -> None:
    """Escaped, with its lines and letters."""
    html = str(show_data("Grüße,\n<b>Ada</b>".encode(), content_type))

    assert "<pre>Grüße,\n&lt;b&gt;Ada&lt;/b&gt;</pre>" in html


@pytest.mark.parametrize(
    ("data", "content_type"),
    [
        (b"caf\xe9", "text/plain"),
        (b"caf\xe9", "text/plain; charset=latin-1"),
        (b"\x1b[2Jgone", "text/plain"),
        (b"plain", "application/octet-stream"),
    ],
)
def test_what_only_says_that_it_is_text_is_dumped(data: bytes, content_type: str) -> None:
    """Also what would not be seen on a page."""
    assert hex_dump(data).splitlines()[0][:40] in str(show_data(data, content_type))


def test_text_that_mentions_a_secret_is_not_shown() -> None:
    """Its value cannot be told apart."""
    assert "hunter2" not in str(show_data(b"password: hunter2", "text/plain"))


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


@pytest.mark.parametrize(
    "data",
    [
        b'{"password": "hunter2"',
        '"Token": hunter2'.encode("utf-16"),
        '{"SCHLÜSSEL": "hunter2"'.encode(),
        '"Schlüssel": hunter2'.encode("utf-16"),
        b'{"schl\\u00FCssel": "hunter2"',
        b'{"p\\u0061ssword": "hunter2"',
    ],
)
@override_settings(OUTBOX={"REDACT": ["password", "token", "schlüssel"]})
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


def test_only_as_much_is_pretty_printed_as_is_shown() -> None:
    """Indentation could make gigabytes out of a deeply nested megabyte."""
    data = b"[" * 100 + b"1," * 500_000 + b"1" + b"]" * 100

    assert len(pretty(data, ())) < 2 * payload.SHOWN


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


# --- Whatever a sender sends -------------------------------------------------------------------

SECRET = "hunter2-is-the-secret"
LONGEST = 8 * payload.SHOWN
"""An escaped character has six; the rest is for what is said about the data."""

texts = st.text(st.characters(codec=None), max_size=20)
keys = texts | st.sampled_from(["password", "X-Token", "iban", "a", "\ud800"])
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys, inner, max_size=4),
    max_leaves=30,
)
content_types = st.text(max_size=255) | st.sampled_from(
    ["", "application/json", "application/x+json; charset=utf-16", "text/plain"]
)


def told(html: object) -> str:
    """Return what is on the page; fail if it cannot be sent or is too long."""
    text = str(html)
    text.encode()
    assert len(text) < LONGEST
    return text


def with_secrets(value: Any) -> Any:
    """Return a value with the secret in the place of everything below a key that names one."""
    if isinstance(value, dict):
        return {
            key: SECRET if re.search("password|token|iban", key, re.IGNORECASE) else with_secrets(v)
            for key, v in value.items()
        }
    return [with_secrets(item) for item in value] if isinstance(value, list) else value


@given(st.binary(max_size=300), content_types)
def test_any_bytes_can_be_shown(data: bytes, content_type: str) -> None:
    """Whatever they are, and whatever they call themselves."""
    told(show_data(data, content_type))


@given(values, st.sampled_from(["utf-8", "utf-16", "utf-32"]), st.booleans(), content_types)
def test_any_json_can_be_shown_without_its_secrets(
    value: Any, encoding: str, escaped: bool, content_type: str
) -> None:
    """In every encoding that JSON may have, as JSON or under another content type."""
    document = {"about": value, "password": SECRET, "list": [with_secrets(value)]}
    data = json.dumps(document, ensure_ascii=escaped).encode(encoding, "surrogatepass")

    shown = told(show_data(data, content_type)) + told(show_json(document))

    assert SECRET not in shown
    assert SECRET[:4].encode().hex(" ") not in shown


@given(values, st.integers(0, 400), content_types)
def test_json_that_is_cut_off_keeps_its_secrets(value: Any, length: int, content_type: str) -> None:
    """It cannot be parsed any more, and is not shown if it mentions a secret."""
    data = json.dumps({"password": SECRET, "about": value}).encode()[:length]

    shown = told(show_data(data, content_type))

    assert "hunter2" not in shown
    assert SECRET[:4].encode().hex(" ") not in shown
