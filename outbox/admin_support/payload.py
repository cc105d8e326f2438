"""Show what a message carries to a person: readable, bounded, without its secrets."""

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

from django.utils.translation import gettext as _

from outbox.admin_support.folding import folded
from outbox.admin_support.html import DASH, Content, block, json_block, size
from outbox.conf import outbox_settings
from outbox.message.codec import is_json
from outbox.nouns import grouped

SHOWN = 64 * 1024
"""Characters of JSON, pretty-printed, that a page shows."""
READ = 4 * 1024 * 1024
"""Bytes of JSON that a page parses; longer data is not shown, as it could not be redacted."""
DUMPED = 4 * 1024
"""Bytes of other data that a page shows."""
HIDDEN = "•••"

_LINE = 16
_CHARSET = re.compile(r"charset\s*=\s*\"?([^\s\";]+)")
_UTF_8 = ("utf-8", "utf8", "us-ascii")
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0e-\x1f\x7f-\x9f]")
_ESCAPE = re.compile(r"\\u([0-9a-fA-F]{4})")
_encoder = json.JSONEncoder(indent=2, ensure_ascii=False)


def show_data(data: bytes | memoryview, content_type: str) -> Content:
    """Return data as redacted, pretty-printed JSON, or as text, else as a hexadecimal dump."""
    data = bytes(data)
    if len(data) > READ:
        return too_large(len(data), content_type)
    about = _about(len(data), content_type)
    secrets = outbox_settings().REDACT
    if is_json(content_type or "application/json"):
        try:
            text = pretty(data, secrets)
        except (ValueError, RecursionError):
            about = _("%(about)s, malformed JSON") % {"about": about}
        else:
            return _cut(text, about, fold=True)
    if word := mentioned(data, secrets):
        # Only the keys of JSON can be told apart from their values.
        about = _("%(about)s; not shown because it mentions “%(word)s”") % {
            "about": about,
            "word": word,
        }
        return block(HIDDEN, about)
    if (plain := as_text(data, content_type)) is not None:
        return _cut(plain, about)
    if len(data) > DUMPED:
        about = _("%(about)s, the first %(shown)s of them shown") % {
            "about": about,
            "shown": grouped(DUMPED),
        }
    return block(hex_dump(data[:DUMPED]), about)


def too_large(length: int, content_type: str) -> Content:
    """Return what a page says in the place of data that is longer than READ."""
    return _("%(about)s: too large to show") % {"about": _about(length, content_type)}


def show_json(value: object) -> Content:
    """Return a value that was JSON as redacted, pretty-printed JSON."""
    return _cut(_dumped(redacted(value, outbox_settings().REDACT)), "", fold=True)


def pretty(data: bytes | str, secrets: Iterable[str]) -> str:
    """Return JSON indented and redacted, not much longer than SHOWN.

    Raises ValueError or RecursionError if it is none.
    """
    return _dumped(redacted(json.loads(data), secrets))


def redacted(value: Any, secrets: Iterable[str]) -> Any:
    """Return JSON values with •••  in place of what stands under a key that names a secret.

    A key names a secret if one of `secrets` is a part of it, in any case, with `-` like `_`.
    """
    words = tuple(_folded(word) for word in secrets)
    return _redacted(value, words)


def mentioned(data: bytes, secrets: Iterable[str]) -> str | None:
    """Return the first word of `secrets` that occurs in data of any kind, or None."""
    data = data.replace(b"\0", b"")  # UTF-16 is Latin 1 and zeros, for most words
    texts = [_folded(_unescaped(data.decode(kind, "replace"))) for kind in ("utf-8", "latin-1")]
    return next((word for word in secrets if any(_folded(word) in text for text in texts)), None)


def as_text(data: bytes, content_type: str) -> str | None:
    """Return data that calls itself text as such; None if it is none.

    What is no UTF-8, or has control characters that a page would not show, is no text.
    """
    kind, _separator, parameters = content_type.casefold().partition(";")
    charset = _CHARSET.search(parameters)
    if kind.strip().partition("/")[0] != "text" or (charset and charset[1] not in _UTF_8):
        return None
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return None
    return None if _CONTROL.search(text) else text


def hex_dump(data: bytes) -> str:
    """Return offsets, bytes and their ASCII characters, in the format of `hexdump -C`."""
    lines = []
    for offset in range(0, len(data), _LINE):
        part = data[offset : offset + _LINE]
        text = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in part)
        lines.append(f"{offset:08x}  {part.hex(' '):<{_LINE * 3}} |{text}|")
    return "\n".join(lines)


def _about(length: int, content_type: str) -> str:
    return f"{content_type or DASH}, {size(length)}"


def _redacted(value: Any, words: tuple[str, ...]) -> Any:
    if isinstance(value, Mapping):
        return {
            key: HIDDEN if any(word in _folded(key) for word in words) else _redacted(item, words)
            for key, item in value.items()
        }
    if isinstance(value, list):
        return [_redacted(item, words) for item in value]
    return value


def _folded(text: str) -> str:
    return text.casefold().replace("-", "_")


def _unescaped(text: str) -> str:
    return _ESCAPE.sub(lambda escape: chr(int(escape[1], 16)), text)


def _dumped(value: object) -> str:
    """Return a value as indented JSON, or somewhat more of it than is shown."""
    pieces, length = [], 0
    # Piece by piece: indentation can make gigabytes out of a deeply nested megabyte.
    for piece in _encoder.iterencode(value):
        pieces.append(piece)
        length += len(piece)
        if length > SHOWN:
            break
    # UTF-8 has no lone surrogates; they become again what they are in JSON.
    return "".join(pieces).encode(errors="backslashreplace").decode()


def _cut(text: str, about: str, *, fold: bool = False) -> Content:
    if len(text) > SHOWN:
        about = _("%(about)s, the first %(shown)s characters shown") % {
            "about": about,
            "shown": grouped(SHOWN),
        }
    text = text[:SHOWN]
    return json_block(folded(text), about) if fold else block(text, about)
