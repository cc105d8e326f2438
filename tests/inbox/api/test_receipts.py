"""Receipts and dead letters through the API: who may do what, and what comes of it."""

from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.test import override_settings

from inbox import Reject, RetryPolicy
from inbox.models import DeadLetter, Receipt
from tests.inbox.support import Handling, happened, receive
from tests.kit.api import VIEW, WHY, Caller

pytestmark = [pytest.mark.sqlite, pytest.mark.django_db(transaction=True)]
OPERATOR = (
    *VIEW,
    *(f"django_inbox.{verb}_{model}" for verb in ("retry", "discard") for model in ("receipt",)),
    *(f"django_inbox.{verb}_deadletter" for verb in ("retry", "discard")),
)
ONCE = RetryPolicy(attempts=1)


def reject(event: Any, message: Any) -> None:
    raise Reject("password=hunter2")


@pytest.fixture
def dead(handling: Handling) -> Receipt:
    """A receipt that waits for a person."""
    handling(reject, retry=ONCE)
    receive(happened(1, key="tenant"))
    return Receipt.objects.get()


@pytest.fixture
def letter() -> DeadLetter:
    """A message that nobody could use."""
    receive(happened(1, type="tests.unknown"))
    return DeadLetter.objects.get()


def test_a_viewer_looks_and_does_nothing(dead: Receipt, letter: DeadLetter) -> None:
    """Errors and attempts are shown without secrets; data takes a permission of its own."""
    viewer = Caller("viewer", *VIEW)
    [shown] = viewer.get("receipts")["results"]
    full = viewer.get(f"receipts/{dead.pk}")

    assert (shown["id"], shown["state"]) == (str(dead.pk), "dead")
    assert full["last_attempts"]
    assert "hunter2" not in str(full)
    for path in (f"receipts/{dead.pk}", f"dead-letters/{letter.pk}"):
        assert viewer.get(f"{path}/data", status=403)
        for verb in ("retry", "discard", "restore"):
            assert viewer.post(f"{path}/{verb}", status=403)
    assert not LogEntry.objects.exists()


def test_what_came_in_is_shown_masked(dead: Receipt, letter: DeadLetter) -> None:
    """Headers and body, to whoever may see data."""
    reader = Caller("reader", *VIEW, "django_outbox.view_data")
    found = reader.get(f"receipts/{dead.pk}/data")

    assert (found["form"], found["data"]["number"]) == ("json", 1)
    assert found["headers"]
    assert reader.get(f"dead-letters/{letter.pk}/data")["headers"]


def test_a_receipt_is_retried_discarded_and_restored(dead: Receipt) -> None:
    """Each is written down with its reason; what has moved on tells its true state."""
    operator = Caller("operator", *OPERATOR)
    path = f"receipts/{dead.pk}"

    assert operator.post(f"{path}/discard")["state"] == "discarded"
    assert operator.post(f"{path}/discard") == {
        "id": str(dead.pk),
        "changed": False,
        "state": "discarded",
    }
    assert operator.post(f"{path}/retry", status=409)["state"] == "discarded"
    assert operator.post(f"{path}/restore")["state"] == "dead"
    assert operator.post(f"{path}/retry")["state"] == "retrying"
    assert operator.post(f"{path}/restore", status=409)["state"] == "retrying"
    said = LogEntry.objects.order_by("pk").values_list("change_message", flat=True)
    assert list(said) == [
        f"{word} {WHY['reason']}" for word in ("Discarded.", "Restored.", "Retried.")
    ]
    assert [each["what"] for each in operator.get("doings")["results"]] == list(said)[::-1]


def test_a_dead_letter_of_no_use_stays_dead(letter: DeadLetter) -> None:
    """To receive it again does not help as long as nobody wants it."""
    operator = Caller("operator", *OPERATOR)
    path = f"dead-letters/{letter.pk}"

    assert operator.post(f"{path}/retry", status=409)["state"] == "dead"
    assert operator.post(f"{path}/discard")["state"] == "discarded"


def test_a_tenant_acts_on_its_own(dead: Receipt) -> None:
    """What is another's is not there for it."""
    with override_settings(OUTBOX_API={"SCOPE": "tests.kit.api.mine"}):
        other = Caller("other", *OPERATOR)
        assert other.get("receipts")["results"] == []
        assert other.get(f"receipts/{dead.pk}", status=404)
        assert other.post(f"receipts/{dead.pk}/discard", status=404)
        assert Caller("tenant", *OPERATOR).post(f"receipts/{dead.pk}/discard")["changed"]


def test_the_conversation_tells_what_became_of_it(dead: Receipt) -> None:
    """With the receipt's state, for whoever may see receipts, and for nobody else."""
    name = dead.correlation_id or dead.message_id
    found = Caller("viewer", *VIEW).get(f"conversations/{name}")

    [message] = found["messages"]
    assert (found["failed"], message["stages"][0]["state"]) == (1, "dead")
    assert "hunter2" not in str(found)
    half = Caller("half", "django_outbox.view_message")
    assert half.get(f"conversations/{name}", status=403)


def test_groups_have_their_handlers(handling: Handling) -> None:
    """By name."""
    handling(reject, declared_group="api-group")
    viewer = Caller("viewer", *VIEW)
    group = viewer.get("groups/api-group")

    assert group in viewer.get("groups")["results"]
    assert [each["name"] for each in group["handlers"]]
    assert viewer.get("groups/none", status=404)


class TestEdit:
    """A message can be changed and retried as long as it waits for a person."""

    EDITOR = (*OPERATOR, "django_outbox.view_data", "django_inbox.edit_receipt")

    def test_it_is_changed_and_retried_and_the_original_is_kept(self, dead: Receipt) -> None:
        """With a reason, where the admin writes it."""
        editor = Caller("editor", *self.EDITOR)
        path = f"receipts/{dead.pk}/edit"
        shown = editor.get(path)
        change = shown | WHY | {"body": shown["body"].replace("1", "2")}

        assert editor.post(path, change)["state"] == "retrying"
        dead.refresh_from_db()
        assert bytes(dead.body or b"").decode() == change["body"]
        assert dead.originals.get().edited_by == "editor"
        assert LogEntry.objects.get().change_message.endswith(WHY["reason"])

    def test_what_was_not_seen_is_not_overwritten(self, dead: Receipt) -> None:
        """Nor is it made another message, or one that its handler could not read."""
        editor = Caller("editor", *self.EDITOR)
        path = f"receipts/{dead.pk}/edit"
        shown = editor.get(path) | WHY

        assert "changed meanwhile" in str(editor.post(path, shown | {"seen": "x"}, status=409))
        for change in ({"headers": {}}, {"body": "no JSON"}):
            assert editor.post(path, shown | change, status=409)["state"] == "dead"
        for missing in ("seen", "headers", "body", "reason", "content_type"):
            body = {name: value for name, value in shown.items() if name != missing}
            assert editor.post(path, body, status=400)["errors"][missing]
        assert not LogEntry.objects.exists()

    def test_it_takes_both_permissions_and_a_state(self, dead: Receipt) -> None:
        """To edit is to see what it carries, as it is."""
        for missing in ("django_outbox.view_data", "django_inbox.edit_receipt"):
            half = Caller(missing, *(each for each in self.EDITOR if each != missing))
            assert missing in half.get(f"receipts/{dead.pk}/edit", status=403)["detail"]
            assert half.post(f"receipts/{dead.pk}/edit", status=403)
        Receipt.objects.update(state="processed")
        editor = Caller("editor", *self.EDITOR)
        assert editor.get(f"receipts/{dead.pk}/edit", status=409)["state"] == "processed"

    def test_what_is_no_text_is_not_edited(self, dead: Receipt) -> None:
        """It would not come back as it was."""
        Receipt.objects.update(body=b"\xff")
        assert Caller("editor", *self.EDITOR).get(f"receipts/{dead.pk}/edit", status=409)


def test_what_fails_alike_is_told_in_groups(dead: Receipt) -> None:
    """To whoever may view the rows, and without secrets."""
    viewer = Caller("viewer", *VIEW)
    found = viewer.get("failures")
    kinds = {each["kind"]: each for each in found["results"]}
    [group] = kinds["receipts"]["groups"]

    assert (group["by"], group["count"], group["newest"]) == ("record", 1, str(dead.pk))
    assert group["states"] == {"dead": 1}
    assert "hunter2" not in str(found)
    assert viewer.get("failures/receipts") == kinds["receipts"]
    assert viewer.get("failures/none", status=404)
    half = Caller("half", "django_inbox.view_deadletter")
    assert [each["kind"] for each in half.get("failures")["results"]] == ["letters"]
    assert half.get("failures/receipts", status=403)
    assert Caller("nobody").get("failures", status=403)
