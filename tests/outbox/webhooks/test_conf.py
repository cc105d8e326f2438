"""OUTBOX["WEBHOOKS"]: what is wrong is told, and no secret is."""

from typing import Any

import pytest
from django.test import override_settings

from outbox.conf import flaws_in
from outbox.webhooks.conf import webhook_settings
from tests.kit.services.callbacks import OTHER_SECRET, SECRET

pytestmark = pytest.mark.sqlite


@pytest.mark.parametrize(
    ("secrets", "owner", "expected"),
    [
        (SECRET, "7", [SECRET]),
        ([SECRET, OTHER_SECRET], "7", [SECRET, OTHER_SECRET]),
        ({"7": OTHER_SECRET, "*": SECRET}, "7", [OTHER_SECRET]),
        ({"7": OTHER_SECRET, "*": SECRET}, "8", [SECRET]),
        ({"7": OTHER_SECRET, "*": SECRET}, "", [SECRET]),
        ({"7": OTHER_SECRET}, "8", []),
        ("", "7", []),
    ],
)
def test_each_owner_has_secrets(secrets: Any, owner: str, expected: list[str]) -> None:
    with override_settings(OUTBOX={"WEBHOOKS": {"SECRETS": secrets}}):
        assert list(webhook_settings().secrets_of(owner)) == expected


@pytest.mark.parametrize(
    "settings",
    [
        {"SECRETS": "no-secret"},
        {"SECRETS": [SECRET, "whsec_no-secret"]},
        {"SECRETS": {"7": "whsec_no-secret"}},
        {"SECRETS": {"7": []}},
        {"SECRETS": {"7": {"a": "no-secret"}}},
        {"SECRETS": {7: SECRET}},
        {"SECRETS": 7},
        {"SUBNETS": "10.0.0.0/8"},
        {"SUBNETS": ["10.0.0.1/8"]},
        {"SUBNETS": ["here"]},
        {"HTTP": "yes"},
        {"SECRET": SECRET},
    ],
)
def test_what_is_wrong_is_told_without_secrets(settings: dict[str, Any]) -> None:
    with override_settings(OUTBOX={"WEBHOOKS": settings}):
        flaws = flaws_in(webhook_settings)

    assert flaws
    assert "no-secret" not in str(flaws)
    assert SECRET not in str(flaws)
