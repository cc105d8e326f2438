"""Tokens of views that programs ask: `Authorization: Bearer <token>`."""

import hmac

from django.http import HttpRequest

from outbox.exceptions import ConfigurationError


def usable(token: str, view: str, otherwise: str = "") -> str:
    """Return a token as it is compared; raise ConfigurationError if nobody could send it.

    It is empty as an unset variable is, or not ASCII. `view` is named in the error.
    """
    token = token.strip()  # a file ends in a newline
    if not token:
        raise ConfigurationError(f"The token of {view} is empty. Give a secret{otherwise}.")
    if not token.isascii():
        raise ConfigurationError(
            f"The token of {view} is not ASCII, and cannot be sent in a header."
        )
    return token


def bears(request: HttpRequest, token: str) -> bool:
    """Tell whether a request has the token."""
    given = request.headers.get("Authorization", "")
    return hmac.compare_digest(given.encode(), f"Bearer {token}".encode())
