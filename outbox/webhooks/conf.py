"""OUTBOX["WEBHOOKS"]: with what callbacks are signed, and where they may go."""

import ipaddress
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from django.core.signals import setting_changed

from outbox.conf import outbox_settings, parse, refuse
from outbox.webhooks.addresses import Subnet
from outbox.webhooks.signing import secret_flaw

WHERE = "OUTBOX['WEBHOOKS']"
EVERYBODY = "*"
"""The owner in SECRETS whose secrets are those of all others."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WebhookSettings:
    """OUTBOX["WEBHOOKS"] = {...}.

    SECRETS: what callbacks are signed with, "whsec_" and 24 to 64 random bytes in Base64: one, or a
        list of which each signs, as while a new one takes over; or a dict of these by the owner of
        the request, with "*" for all others.
    HTTP: whether a URL may begin with http://, so that anybody on the way can read a callback.
    SUBNETS: networks within which may be called although they are private, such as "10.1.0.0/16".
    """

    SECRETS: str | Sequence[str] | Mapping[str, Any] = field(default="", repr=False)
    HTTP: bool = False
    SUBNETS: Sequence[str] = ()

    def __post_init__(self) -> None:
        refuse(self._flaws())

    def _flaws(self) -> Iterator[str]:
        for owner, secrets in self._by_owner().items():
            where = f"{WHERE}['SECRETS']" + (f"[{owner!r}]" if owner != EVERYBODY else "")
            if not isinstance(owner, str):
                yield f"{WHERE}['SECRETS'] has the owner {owner!r}, who is no string"
            if not isinstance(secrets, list | tuple) or not secrets:
                yield f"{where} must be a secret or a list of secrets"
                continue
            for each in secrets:
                if problem := secret_flaw(each):
                    yield f"{where}: a secret {problem}"
        if not isinstance(self.SUBNETS, list | tuple):
            yield f"{WHERE}['SUBNETS'] must be a list of networks"
            return
        for subnet in self.SUBNETS:
            try:
                ipaddress.ip_network(subnet)
            except ValueError as exc:
                yield f"{WHERE}['SUBNETS']: {exc}"

    def secrets_of(self, owner: str) -> Sequence[str]:
        """Return what signs the callbacks of an owner's requests; nothing if there is nothing."""
        found = self._by_owner()
        secrets: Sequence[str] = found.get(owner) or found.get(EVERYBODY) or ()
        return secrets

    @property
    def subnets(self) -> tuple[Subnet, ...]:
        return tuple(ipaddress.ip_network(each) for each in self.SUBNETS)

    def _by_owner(self) -> dict[Any, Any]:
        if not self.SECRETS:
            return {}
        given = self.SECRETS if isinstance(self.SECRETS, Mapping) else {EVERYBODY: self.SECRETS}
        return {k: [each] if isinstance(each, str) else each for k, each in given.items()}


@cache
def webhook_settings() -> WebhookSettings:
    """Return OUTBOX["WEBHOOKS"] as it is now; raise ConfigurationError if it is not usable."""
    return parse(WebhookSettings, outbox_settings().WEBHOOKS, WHERE)


def _forget(*, setting: str, **_: Any) -> None:
    if setting == "OUTBOX":
        webhook_settings.cache_clear()


setting_changed.connect(_forget)
