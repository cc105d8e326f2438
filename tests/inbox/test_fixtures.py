"""Fixtures of what was received: all of it comes back as it was."""

from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command
from django.db import connection
from django.db.models import Model

from inbox.models import Binding, DeadLetter, KeySequence, Original, Receipt
from inbox.states import State

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.sqlite]

MODELS: tuple[type[Model], ...] = (Receipt, KeySequence, DeadLetter, Original, Binding)


def rows() -> list[dict[str, Any]]:
    """Return all rows; times as precise as Django's JSON."""
    found = [row for model in MODELS for row in model._default_manager.order_by("pk").values()]
    for row in found:
        for name, value in row.items():
            if hasattr(value, "microsecond"):
                row[name] = value.replace(microsecond=value.microsecond // 1000 * 1000)
            elif isinstance(value, memoryview):
                row[name] = bytes(value)
    return found


@pytest.mark.parametrize("way", ["loaddata", "serialized_rollback"])
def test_receipts_and_dead_letters(way: str, tmp_path: Path) -> None:
    """Receipts, numbers of keys, dead letters, originals, bindings; bodies byte for byte."""
    receipt = Receipt.objects.create(
        handler="h", source="/s", message_id="1", type="t", state=State.RETRYING, body=b"\x00\xff"
    )
    Receipt.objects.create(handler="h", source="/s", message_id="2", type="t")
    KeySequence.objects.create(handler="h", source="/s", key="k", last=7)
    DeadLetter.objects.create(
        group="g", reason="undecodable", error="e", headers="{}", body=b"\xfe", digest="d"
    )
    Original.objects.create(receipt=receipt, headers="{}", body=b"\x01", edited_by="someone")
    Binding.objects.create(group="g", queue="q", exchange="events", topic="a.b", lost=True)
    before = rows()
    dump = connection.creation.serialize_db_to_string()
    file = tmp_path / "dump.json"
    call_command("dumpdata", "django_inbox", output=str(file))
    for model in MODELS:
        model._default_manager.all().delete()
    if way == "loaddata":
        call_command("loaddata", str(file), verbosity=0)
    else:
        connection.creation.deserialize_db_from_string(dump)

    assert rows() == before
