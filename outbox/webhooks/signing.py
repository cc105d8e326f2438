"""Sign and verify callbacks as Standard Webhooks 1.0 says: HMAC-SHA256 with shared secrets."""

import base64
import binascii
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from outbox.exceptions import ConfigurationError, InvalidSignature
from outbox.message import structured
from outbox.message.envelope import Envelope

if TYPE_CHECKING:
    from standardwebhooks.webhooks import Webhook

PREFIX = "whsec_"
ID, TIMESTAMP, SIGNATURE = "webhook-id", "webhook-timestamp", "webhook-signature"
_BYTES = range(24, 65)


def sign(message_id: str, body: bytes, secrets: Sequence[str], at: datetime) -> dict[str, str]:
    """Return the headers that sign a body: one signature for each secret."""
    text = body.decode()
    signatures = [_webhook(each).sign(message_id, at, text) for each in secrets]
    return {
        ID: message_id,
        TIMESTAMP: str(int(at.timestamp())),
        SIGNATURE: " ".join(signatures),
    }


def verify(headers: Mapping[str, str], body: bytes, secrets: str | Sequence[str]) -> Envelope:
    """Return the event of a callback that came in, if it is signed with one of the secrets.

    `headers` are those of the request, in any case; `body` is it as it came, byte for byte. Its
    `webhook-id`, which is the event's id, is the same whenever it is sent again.

    Raises InvalidSignature if it is not, or not within five minutes of now; UndecodableMessage
    for what is signed and no event; ConfigurationError for a secret that is none.
    """
    known = [secrets] if isinstance(secrets, str) else list(secrets)
    found = {name.lower(): value for name, value in headers.items()}
    for secret in known:
        if problem := secret_flaw(secret):
            raise ConfigurationError(f"A secret {problem}.")
        if _is_signed(_webhook(secret), found, body):
            return structured.decode(structured.EVENT, body, topic="")
    raise InvalidSignature(
        "The callback is not signed with one of these secrets, or not within five minutes of now."
    )


def secret_flaw(secret: object) -> str | None:
    """Return what keeps this from being a secret, without quoting it; None if nothing does."""
    if isinstance(secret, str) and secret.startswith(PREFIX):
        try:
            if len(base64.b64decode(secret.removeprefix(PREFIX), validate=True)) in _BYTES:
                return None
        except binascii.Error:
            pass
    return f"is {PREFIX!r} and {_BYTES[0]} to {_BYTES[-1]} random bytes in Base64"


def _is_signed(webhook: "Webhook", headers: Mapping[str, str], body: bytes) -> bool:
    from standardwebhooks.webhooks import WebhookVerificationError  # noqa: PLC0415 - as below

    try:
        webhook.verify(body, dict(headers), json_parse=False)
    except (WebhookVerificationError, ValueError):
        return False  # ValueError is for headers that are malformed, and for what is not UTF-8
    return True


def _webhook(secret: str) -> "Webhook":
    try:
        from standardwebhooks.webhooks import Webhook  # noqa: PLC0415 - an extra
    except ImportError as exc:
        raise ConfigurationError(
            "Callbacks are signed by the library standardwebhooks, which is not installed: pip "
            "install 'django-outbox-inbox[webhooks]'."
        ) from exc
    return Webhook(secret)
