"""The page about asking over HTTP, executed from top to bottom."""

import json
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client, override_settings

from outbox.models import Request
from outbox.replies.asked import Asked
from outbox.testing import drain
from tests.acceptance.test_docs import PYTHON, ROOT
from tests.acceptance.test_docs_ask import ANSWER, declared
from tests.kit.services.callbacks import SECRET

PAGE = (ROOT / "docs/how-to/ask-over-http.md").read_text()
VIEW, ASK, READ, WAIT, ONCE, PARTNERS, VISITORS = PYTHON.findall(PAGE)

pytestmark = [pytest.mark.sqlite, pytest.mark.django_db(transaction=True)]


@pytest.fixture
def page() -> Iterator[dict[str, Any]]:
    """What the page has defined, with its views at their addresses."""
    with declared() as names:
        exec(ANSWER, names)
        exec(VIEW, names)
        names["client"] = Client()
        names["client"].force_login(User.objects.create_user("visitor"))
        with override_settings(ROOT_URLCONF=tuple(names["urlpatterns"])):
            yield names


def test_the_page(page: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    """Asked, answered, read; and asked again."""
    exec(ASK, page)
    drain()
    exec(READ, page)
    exec(ONCE, page)
    assert capsys.readouterr().out == "pricing.quote.given {'amount': 19}\n"
    assert Request.objects.count() == 2


def test_it_is_waited_for(page: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """It is answered while somebody waits."""
    wait = Asked.wait

    def meanwhile(asked: Asked, timeout: float) -> str:
        drain()
        return wait(asked, timeout)

    monkeypatch.setattr(Asked, "wait", meanwhile)
    exec(ASK, page)
    exec(WAIT, page)


def test_a_view_for_partners(page: dict[str, Any], settings: Any) -> None:
    """One that may not be called back is refused, and another one is another request."""
    settings.OUTBOX = {"SOURCE": "/shop", "WEBHOOKS": {"SECRETS": SECRET}}
    exec(PARTNERS, page)
    page["router"].register("orders", page["QuotesForPartners"], basename="orders")

    def post(url: str) -> Any:
        return page["client"].post(
            "/orders",
            json.dumps({"basket_id": 3}),
            content_type="application/json",
            headers={"Callback-URL": url, "Idempotency-Key": "7"},
        )

    with override_settings(ROOT_URLCONF=tuple(page["router"].get_urls())):
        refused = post("https://127.0.0.1/hook?token=swordfish")
        accepted = post("https://partner.example/hook")
        again = post("https://partner.example/hook")
        other = post("https://partner.example/other")
    assert refused.status_code == 400
    assert "must not be called" in refused.content.decode()
    assert "swordfish" not in refused.content.decode()
    assert (accepted.status_code, again.status_code, other.status_code) == (202, 202, 422)
    assert Request.objects.get().callback_url == "https://partner.example/hook"


def test_a_view_for_visitors(page: dict[str, Any]) -> None:
    """What belongs to the request is written with it."""
    written: list[dict[str, Any]] = []
    objects = SimpleNamespace(create=lambda **row: written.append(row))
    page["AskedFor"] = SimpleNamespace(objects=objects)
    exec(VISITORS, page)
    page["router"].register("visits", page["QuotesForVisitors"], basename="visits")
    with override_settings(ROOT_URLCONF=tuple(page["router"].get_urls())):
        said = Client().post(
            "/visits",
            json.dumps({"number": 3}),
            content_type="application/json",
            headers={"X-Visitor": "ann", "Idempotency-Key": "1"},
        )
    assert said.status_code == 202
    assert written == [{"request": said.json()["id"], "basket": 3}]
