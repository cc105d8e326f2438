"""A view that asks and is not as it should be is told at the start."""

from datetime import timedelta
from typing import Any

import pytest
from django.core.checks import run_checks
from django.test import override_settings
from django.urls import include, path
from rest_framework.routers import SimpleRouter

from outbox.api.accepted_checks import flaws_of
from tests.outbox.api.quoting import Quotes

pytestmark = [pytest.mark.sqlite, pytest.mark.usefixtures("_quoting")]
ROUTER = SimpleRouter()
urlpatterns = [path("ask/", include(ROUTER.urls))]


def flaw(**options: Any) -> str:
    [found] = flaws_of(type("Wrong", (Quotes,), options))
    return found


def test_what_is_right_is_not_told() -> None:
    assert list(flaws_of(Quotes)) == []


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"request_type": ""}, "say what it asks"),
        ({"request_type": "nobody.knows"}, "nobody.knows"),
        ({"owner": "email"}, "owner is a method"),
        ({"callback_url": "https://hooks.example/"}, "callback_url is a method"),
        ({"authentication_classes": ()}, "authenticates nobody"),
        ({"serializer_class": dict}, "serializer_class"),
        ({"within": timedelta(0)}, "within is a timedelta"),
        ({"replies": 0}, "replies is a whole number"),
        ({"max_wait": -1}, "max_wait is a whole number"),
        ({"max_waiting": "8"}, "max_waiting is a whole number"),
    ],
)
def test_what_is_wrong(options: dict[str, Any], said: str) -> None:
    with override_settings(OUTBOX={"WEBHOOKS": {"SECRETS": ["whsec_" + "A" * 32]}}):
        assert said in flaw(**options)


def test_a_callback_that_nobody_could_sign() -> None:
    with override_settings(OUTBOX={}):
        assert "no secret" in flaw(callback_url=lambda self, request: "https://hooks.example/")


def test_views_are_found_among_the_urls() -> None:
    class Wrong(Quotes):
        max_waiting = -1

    router = SimpleRouter()
    router.register("quotes", Wrong, basename="quotes")
    kept, urlpatterns[:] = list(urlpatterns), [path("ask/", include(router.urls))]
    try:
        with override_settings(ROOT_URLCONF=__name__):
            found = [each for each in run_checks() if each.id == "outbox.E013"]
    finally:
        urlpatterns[:] = kept
    assert [each.msg for each in found] == [
        f"{Wrong.__qualname__}: max_waiting is a whole number from 0 to 3,600, not -1"
    ]
