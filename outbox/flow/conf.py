"""FLOW = {...}: the services whose halves of a conversation are shown beside ours."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from difflib import get_close_matches
from functools import cache
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings
from django.core.signals import setting_changed

from outbox.conf import flaws_in, parse, refuse

_LOCAL = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """Another service that tells what it knows of a conversation.

    URL: the address of its `outbox.flow.views.conversation_view`, https, or http on this machine.
    TOKEN: the one that it was given.
    """

    URL: str = field(default="", repr=False)
    TOKEN: str = field(default="", repr=False)

    def __post_init__(self) -> None:
        refuse(self._flaws())

    def _flaws(self) -> Iterator[str]:
        try:
            parts = urlsplit(self.URL)
            host, _ = parts.hostname, parts.port
        except ValueError:
            yield "URL must be an address such as 'https://billing.example.com/flow/'"
            return
        if parts.scheme not in ("https", "http") or not host:
            yield "URL must be an address such as 'https://billing.example.com/flow/'"
        elif parts.scheme == "http" and host not in _LOCAL:
            yield "URL must begin with https://, since the token is sent there"
        if parts.username is not None or parts.password is not None:
            yield "URL must have no user and no password: TOKEN is for that"
        if parts.query or parts.fragment:
            yield "URL must have no '?' and no '#'"
        if not self.URL.isascii() or not self.URL.isprintable() or " " in self.URL:
            yield "URL must be ASCII, with nothing but what an address may have"
        token = self.TOKEN
        if not token.strip():
            yield "TOKEN is empty, as an unset variable is"
        elif not token.isascii() or not token.isprintable() or token != token.strip():
            yield "TOKEN must be ASCII, without blanks around it: it is sent in a header"


@dataclass(frozen=True, slots=True, kw_only=True)
class FlowSettings:
    """FLOW = {...}.

    PEERS: by name the services that are asked for what they know of a conversation.
    """

    PEERS: Mapping[str, Any] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        refuse(self._flaws())

    def _flaws(self) -> Iterator[str]:
        if not isinstance(self.PEERS, Mapping):
            yield f"FLOW['PEERS'] must be a dict, not {type(self.PEERS).__name__}"
            return
        for key, raw in self.PEERS.items():
            name, where = str(key), f"FLOW['PEERS'][{key!r:.60}]"
            if not name.strip() or len(name) > 100:
                yield f"{where}: its name must have from 1 to 100 characters"
            for flaw in flaws_in(parse, Peer, raw, where):
                yield flaw if flaw.startswith("FLOW") else f"{where}: {flaw}"

    @property
    def peers(self) -> Mapping[str, Peer]:
        """The services by name."""
        return {str(name): Peer(**raw) for name, raw in self.PEERS.items()}


def raw_settings() -> Mapping[str, Any]:
    """Return FLOW as it stands in the settings; nothing if it is another library's.

    The name is short, and may be taken. It is ours if a key of it is one of ours, or nearly so.
    """
    raw = getattr(settings, "FLOW", None)
    if not isinstance(raw, Mapping):
        return {}
    known = [each.name for each in fields(FlowSettings)]
    return raw if any(get_close_matches(str(key).upper(), known) for key in raw) else {}


@cache
def flow_settings() -> FlowSettings:
    """Return FLOW as it is now."""
    return parse(FlowSettings, raw_settings(), "FLOW")


def _forget(*, setting: str, **_: Any) -> None:
    if setting == "FLOW":
        flow_settings.cache_clear()


setting_changed.connect(_forget)
