"""What a receiver's answer means: pure policy."""

import ssl
from collections.abc import Iterator
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import NamedTuple

from urllib3.util.ssl_match_hostname import CertificateError

from outbox.error_text import MAX_CAUSES, name_of
from relay.brokers.base import CONFIRMED, Outcome, Status

LONGEST = 86_400.0
"""Seconds that a receiver may have us wait for at most, by Retry-After."""

_ASKS_TO_WAIT = (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE)


class Answer(NamedTuple):
    """What became of one callback; `away` says that others to its receiver would fare no better."""

    outcome: Outcome
    away: bool = False


def answered(status: int, retry_after: str, now: datetime) -> Answer:
    """Return what an HTTP status means, with what the header Retry-After says."""
    if 200 <= status < 300:
        return Answer(CONFIRMED)
    said = f"the receiver answered {status}{_phrase(status)}"
    if status == HTTPStatus.GONE:
        return Answer(Outcome(Status.REFUSED, f"{said}: it wants no more", final=True))
    if 300 <= status < 400:
        return Answer(Outcome(Status.REFUSED, f"{said}: redirects are not followed"))
    pause = seconds(retry_after, now) if status in _ASKS_TO_WAIT else 0.0
    away = status >= 500 or status in _ASKS_TO_WAIT or status == HTTPStatus.REQUEST_TIMEOUT
    return Answer(Outcome(Status.REFUSED, said, after=pause), away)


def failed(exc: BaseException, timeout: float) -> Answer:
    """Return what it means that there was no answer.

    The text has nothing of the URL, which the errors of libraries quote.
    """
    for each in _inner(exc):
        if isinstance(each, ssl.SSLCertVerificationError):
            text = f"its certificate is not trusted: {each.verify_message}"
        elif isinstance(each, CertificateError):
            text = "its certificate is not trusted: it is for another name"
        elif isinstance(each, TimeoutError):
            text = f"no answer within {timeout:g} s"
        elif isinstance(each, OSError) and each.errno and each.strerror:
            text = each.strerror
        else:
            continue
        return Answer(Outcome(Status.REFUSED, f"the receiver cannot be reached: {text}"), away=True)
    text = f"the receiver cannot be reached: {name_of(exc)}"
    return Answer(Outcome(Status.REFUSED, text), away=True)


def seconds(retry_after: str, now: datetime) -> float:
    """Return how long Retry-After asks to wait, as a number or until a time; 0.0 if it does not."""
    text = retry_after.strip()
    if text.isascii() and text.isdecimal():
        return min(float(text[:9]), LONGEST)
    try:
        until = parsedate_to_datetime(text)
    except ValueError:
        return 0.0
    until = until if until.tzinfo else until.replace(tzinfo=UTC)
    return min(max(0.0, (until - now).total_seconds()), LONGEST)


def _phrase(status: int) -> str:
    try:
        return f" {HTTPStatus(status).phrase}"
    except ValueError:
        return ""


def _inner(exc: BaseException) -> Iterator[BaseException]:
    """Yield an error and what is in it; libraries keep that in `reason` and in arguments, too."""
    left, seen = [exc], 0
    while left and seen < MAX_CAUSES:
        each = left.pop(0)
        seen += 1
        yield each
        inner = (*each.args, getattr(each, "reason", None), each.__cause__, each.__context__)
        left += [found for found in inner if isinstance(found, BaseException)]
