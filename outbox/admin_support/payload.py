"""Show what a message carries to a person: readable, bounded, without its secrets."""

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

from django.utils.translation import gettext as _

from outbox.admin_support.html import DASH, Content, block, size
from outbox.codec import is_json
from outbox.conf import outbox_settings

SHOWN = 64 * 1024
"""Characters of JSON, pretty-printed, that a page shows."""
READ = 4 * 1024 * 1024
"""Bytes of JSON that a page parses; longer data is not shown, as it could not be redacted."""
DUMPED = 4 * 1024
"""Bytes of other data that a page shows."""
HIDDEN = "•••"

_LINE = 16
_ESCAPE = re.compile(r"\\u([0-9a-fA-F]{4})")
_encoder = json.JSONEncoder(indent=2, ensure_ascii=False)


def show_data(data: bytes | memoryview, content_type: str) -> Content:
    """Return data as redacted, pretty-printed JSON, else as a hexadecimal dump."""
    data = bytes(data)
    about = f"{content_type or DASH}, {size(len(data))}"
    if len(data) > READ:
        return _("%(about)s: too large to show") % {"about": about}
    secrets = outbox_settings().REDACT
    if is_json(content_type or "application/json"):
        try:
            text = pretty(data, secrets)
        except (ValueError, RecursionError):
            about = _("%(about)s, malformed JSON") % {"about": about}
        else:
            return _cut(text, about)
    if word := mentioned(data, secrets):
        # Only the keys of JSON can be told apart from their values.
        about = _("%(about)s; not shown because it mentions “%(word)s”") % {
            "about": about,
            "word": word,
        }
        return block(HIDDEN, about)
    if len(data) > DUMPED:
        about = _("%(about)s, the first %(shown)s of them shown") % {
            "about": about,
            "shown": f"{DUMPED:,}",
        }
    return block(hex_dump(data[:DUMPED]), about)


def show_json(value: object) -> Content:
    """Return a value that was JSON as redacted, pretty-printed JSON."""
    return _cut(_dumped(redacted(value, outbox_settings().REDACT)), "")


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


def hex_dump(data: bytes) -> str:
    """Return offsets, bytes and their ASCII characters, in the format of `hexdump -C`."""
    lines = []
    for offset in range(0, len(data), _LINE):
        part = data[offset : offset + _LINE]
        text = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in part)
        lines.append(f"{offset:08x}  {part.hex(' '):<{_LINE * 3}} |{text}|")
    return "\n".join(lines)


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


def _cut(text: str, about: str) -> Content:
    if len(text) > SHOWN:
        about = _("%(about)s, the first %(shown)s characters shown") % {
            "about": about,
            "shown": f"{SHOWN:,}",
        }
    return block(text[:SHOWN], about)
