"""The examples of docs/how-to/api.md run as they stand."""

import re
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command
from django.db import transaction
from django.http import HttpRequest

import outbox
from inbox.models import DeadLetter, Receipt
from outbox.models import Message
from tests.kit.api import VIEW, Caller
from tests.kit.support import Registered

PAGE = Path(__file__).resolve().parents[2] / "docs/how-to/api.md"


def dead(number: int, handler: str) -> Receipt:
    return Receipt.objects.create(
        handler=handler,
        source="/shop",
        message_id=f"m-{number}",
        type="shop.order.placed",
        state="dead",
        reason="failed",
        error="CarrierAway: it is night",
        place=0,
    )


def published() -> str:
    """Emit a message that the relay has published."""
    with transaction.atomic():
        found = outbox.emit("api.told", {}).id
    call_command("relay", "--until-empty")
    return found


@pytest.mark.django_db(transaction=True)
def test_the_examples_run(capsys: pytest.CaptureFixture[str], registered: Registered) -> None:
    """Every block, in the order of the page."""
    registered("api.told")
    receipts = [dead(number, "shipping.send") for number in range(3)]
    may = ("django_inbox.retry_receipt", "django_inbox.discard_receipt")
    caller = Caller(
        "caller", *VIEW, *may, "django_relay.replay_checkpoint", "django_outbox.change_failurenote"
    )
    names: dict[str, Any] = {"api": caller.client, "dead": str(dead(9, "billing.invoice").pk)}
    names["published"] = published()
    names["emit_something"] = transaction.atomic(lambda: outbox.emit("api.told", {}))
    capsys.readouterr()
    for block in re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(), re.M | re.S):
        exec(block, names)

    assert [str(each.pattern) for each in names["urlpatterns"]] == ["api/"]
    read = [row["id"] for page in ("first", "second") for row in names[page]["results"]]
    assert read == [names["dead"], *(str(each.pk) for each in reversed(receipts))]
    assert capsys.readouterr().out.splitlines()[1:] == ["3 done, 0 left alone", "api.told"]
    assert Receipt.objects.filter(state="retrying").count() == 3

    request = HttpRequest()
    request.user = caller.user
    letters = DeadLetter.objects.all()
    assert names["mine"](request, Message.objects.all()).query.where
    assert not names["mine"](request, letters)
    caller.user.is_staff = True
    assert names["mine"](request, letters) is letters


@pytest.mark.django_db
def test_the_table_names_what_there_is() -> None:
    """Each address of the page is answered, and each that is answered is on it."""
    caller = Caller("caller", *VIEW)
    described = caller.get("openapi")["paths"]
    resources = {path.split("/")[2] for path in described}
    named = set(re.findall(r"^\| `([a-z-]+)[`/]", PAGE.read_text(), re.M))

    assert resources <= named
