"""Signatures of Standard Webhooks: ours are theirs, and theirs are ours."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from outbox.exceptions import ConfigurationError, InvalidSignature, UndecodableMessage
from outbox.message import structured
from outbox.message.envelope import Envelope
from outbox.webhooks import verify
from outbox.webhooks.signing import secret_flaw, sign
from tests.kit.services.callbacks import OTHER_SECRET, SECRET

pytestmark = pytest.mark.sqlite

EVENT = Envelope(
    id="0197-7",
    source="/shop",
    type="outbox.request.settled",
    data=b'{"state": "answered"}',
    subject="7",
    time=datetime(2026, 11, 30, tzinfo=UTC),
    correlation_id="c",
)
BODY = structured.encode(EVENT)


def signed(*secrets: str, at: datetime | None = None, body: bytes = BODY) -> dict[str, str]:
    return sign("0197-7", body, secrets, at or datetime.now(UTC))


def test_the_library_verifies_what_we_sign() -> None:
    assert Webhook(SECRET).verify(BODY, signed(SECRET))["id"] == "0197-7"


def test_we_verify_what_the_library_signs() -> None:
    now = datetime.now(UTC)
    headers = {
        "Webhook-Id": "0197-7",
        "WEBHOOK-TIMESTAMP": str(int(now.timestamp())),
        "webhook-signature": Webhook(SECRET).sign("0197-7", now, BODY.decode()),
    }

    assert verify(headers, BODY, SECRET) == EVENT


def test_while_a_secret_is_changed_either_verifies() -> None:
    """The sender signs with both; the receiver may know one of them, or both."""
    both = signed(SECRET, OTHER_SECRET)

    assert len(both["webhook-signature"].split()) == 2
    for known in (SECRET, OTHER_SECRET, [SECRET, OTHER_SECRET]):
        assert verify(both, BODY, known).id == EVENT.id
    for each in (SECRET, OTHER_SECRET):
        Webhook(each).verify(BODY, both)
    with pytest.raises(WebhookVerificationError):
        Webhook(OTHER_SECRET).verify(BODY, signed(SECRET))
    with pytest.raises(InvalidSignature):
        verify(signed(SECRET), BODY, OTHER_SECRET)


def no(name: str) -> Any:
    return lambda headers: {key: value for key, value in headers.items() if key != name}


@pytest.mark.parametrize(
    "change",
    [
        no("webhook-id"),
        no("webhook-timestamp"),
        no("webhook-signature"),
        lambda headers: headers | {"webhook-id": "another"},
        lambda headers: headers | {"webhook-timestamp": "soon"},
        lambda headers: headers | {"webhook-timestamp": "1" * 400},
        lambda headers: headers | {"webhook-timestamp": "nan"},
        lambda headers: headers | {"webhook-signature": "v1"},
        lambda headers: headers | {"webhook-signature": "v1,&"},
        lambda headers: headers | {"webhook-signature": "v1,é"},
        lambda headers: headers | {"webhook-signature": "v1,a,b"},
        lambda headers: headers | {"webhook-signature": headers["webhook-signature"][:-6]},
        lambda headers: headers | {"webhook-signature": ""},
        lambda headers: (
            headers | {"webhook-signature": headers["webhook-signature"].replace("v1", "v2")}
        ),
    ],
)
def test_headers_that_are_missing_or_malformed_are_no_signature(change: Any) -> None:
    with pytest.raises(InvalidSignature):
        verify(change(signed(SECRET)), BODY, SECRET)


@pytest.mark.parametrize("body", [BODY + b" ", b"", b"\xff\xfe"])
def test_another_body_is_not_signed(body: bytes) -> None:
    with pytest.raises(InvalidSignature):
        verify(signed(SECRET), body, SECRET)


@pytest.mark.parametrize("minutes", [-6, 6])
def test_what_was_signed_long_ago_is_refused(minutes: int) -> None:
    """Also what claims to come from the future: either could be sent again and again."""
    at = datetime.now(UTC) + timedelta(minutes=minutes)

    with pytest.raises(InvalidSignature):
        verify(signed(SECRET, at=at), BODY, SECRET)


def test_a_body_that_is_signed_and_no_event_is_undecodable() -> None:
    with pytest.raises(UndecodableMessage):
        verify(signed(SECRET, body=b"[]"), b"[]", SECRET)


@pytest.mark.parametrize("secret", ["", "secret", "whsec_", "whsec_c2hvcnQ=", "whsec_&&", 7, None])
def test_a_weak_secret_is_refused_without_quoting_it(secret: object) -> None:
    problem = secret_flaw(secret)

    assert problem == "is 'whsec_' and 24 to 64 random bytes in Base64"
    with pytest.raises(ConfigurationError):
        verify(signed(SECRET), BODY, [secret])  # type: ignore[list-item]


def test_an_event_is_written_as_it_is_read() -> None:
    """JSON as it is, byte for byte; all else in Base64."""
    assert json.loads(BODY)["data"] == {"state": "answered"}
    for data, kind in ((b'{"a":  1}', "application/json"), (b"\x00\xff", "image/png")):
        event = Envelope("1", "/a", "b", data, content_type=kind, attributes={"tenant": "t"})
        assert structured.decode(structured.EVENT, structured.encode(event), topic="") == event
