"""What a message carries, whatever that is: read as what it is, without its secrets."""

import json
from base64 import b64decode

import pytest

from outbox.admin_support import payload
from outbox.api import data
from outbox.api.data import DEPTH, present, present_json
from outbox.api.formats import Renderer

JSON = "application/json"


@pytest.mark.parametrize(
    ("body", "kind", "form", "value"),
    [
        (b'{"a": [1, {"Card-Number": "4"}]}', JSON, "json", {"a": [1, {"Card-Number": "•••"}]}),
        (b'"\\ud800"', JSON, "json", "\ud800"),
        (b"null", "", "json", None),
        (b"caf\xc3\xa9", "text/plain", "text", "café"),
        (b"my password is x", "text/plain", "hidden", None),
        (b'{"token": "x', JSON, "hidden", None),
        (b"\x00\xff", "application/octet-stream", "base64", "AP8="),
        (b'{"a": NaN}', JSON, "base64", None),
        (b"[" * 100_000, JSON, "base64", None),
        (b"[" * (DEPTH + 1) + b"]" * (DEPTH + 1), JSON, "base64", None),
        (b"9" * 10_000, JSON, "base64", None),
    ],
)
def test_data_is_what_it_is(body: bytes, kind: str, form: str, value: object) -> None:
    """A value, a text or bytes; what cannot be told apart from a secret is hidden."""
    found = present(body, kind)

    assert (found["form"], found["size"]) == (form, str(len(body)))
    if form == "base64":
        assert b64decode(found["data"]) == body
    else:
        assert found["data"] == value
    assert json.loads(Renderer().render(found)) == found


def test_headers_are_a_value_or_nothing() -> None:
    """Whatever somebody has sent."""
    assert present_json('{"x-token": "t", "n": 1}') == {"x-token": "•••", "n": 1}
    for bad in ("{", '{"n": NaN}', "[" * 100_000):
        assert present_json(bad) is None


def test_what_is_too_large_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its size is told."""
    monkeypatch.setattr(data, "READ", 3)
    assert present(b"[1]", JSON)["form"] == "json"
    assert present(b"[12]", JSON) == {
        "content_type": JSON,
        "size": "4",
        "form": "too_large",
        "data": None,
    }
    assert payload.READ > 1_000_000
