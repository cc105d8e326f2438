"""A setting that is wrong is an error of `check`, and never its end."""

from typing import Any

import pytest
from django.core.checks import run_checks
from django.test import override_settings

import inbox
from inbox.handlers.registry import handlers
from tests.kit.support import Counted

BROKEN: dict[str, Any] = {
    "outbox.E001": {"OUTBOX": {"SOURSE": "/mysite", "LANES": "4"}},
    "inbox.E001": {"INBOX": {"QUEUE_PREFX": "x"}},
    "relay.E001": {"RELAYS": {"default": {"BACKENDS": "x"}}},
}


@pytest.fixture
def _handlers() -> Any:
    """Handlers of all kinds that leave their group to the settings, as most do."""
    names = ("broken.class", "broken.pattern", "broken.type")
    inbox.handler(Counted, name=names[0])(lambda event, message: None)
    inbox.handler("tests.#", name=names[1])(lambda event, message: None)
    inbox.handler("tests.countedd", name=names[2])(lambda event, message: None)
    yield
    for name in names:
        handlers.remove(name)


@pytest.mark.parametrize("error", BROKEN)
@pytest.mark.parametrize("deploy", [False, True])
@pytest.mark.usefixtures("_handlers")
def test_every_check_survives_it(error: str, deploy: bool) -> None:
    """The one that is about the setting names what is wrong; the others have nothing to say."""
    with override_settings(**BROKEN[error]):
        found = run_checks(include_deployment_checks=deploy)

    assert error in {message.id for message in found}
