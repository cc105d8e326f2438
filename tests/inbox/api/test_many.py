"""Actions on all rows that a filter selects: first told, then done step by step."""

from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.db.models.functions import Now
from django.test import override_settings

from inbox.models import DeadLetter, Receipt
from inbox.operator import restore_letters
from outbox.api import actions
from tests.kit.api import VIEW, Caller

pytestmark = [pytest.mark.sqlite, pytest.mark.django_db]
OPERATOR = (*VIEW, "django_inbox.discard_receipt")


def receipts(count: int, *, state: str = "dead", handler: str = "h", key: str = "k") -> list[int]:
    return [
        Receipt.objects.create(
            handler=handler,
            source="/s",
            message_id=f"{handler}-{n}",
            type="a.b",
            state=state,
            key=key,
            place=0,
            error="why",
        ).pk
        for n in range(count)
    ]


def steps(caller: Caller, **body: Any) -> list[dict[str, Any]]:
    """Do all steps; return their answers, that of the dry run first."""
    body |= {"reason": "many"}
    found = [caller.post("receipts/discard", body)]
    while found[-1]["next"]:
        found.append(caller.post("receipts/discard", body | {"step": found[-1]["next"]}))
    return found


def test_nothing_is_done_before_the_first_step() -> None:
    """It is told how many there are, with some of them."""
    numbers, operator = receipts(5), Caller("operator", *OPERATOR)
    receipts(2, state="processed", handler="other")

    told = operator.post("receipts/discard", {"reason": "many", "q": "state:dead"})

    assert (told["matching"], told["more"], told["changed"]) == (5, False, 0)
    assert told["examples"] == [str(each) for each in numbers[:3]]
    assert Receipt.objects.filter(state="dead").count() == 5


def test_steps_reach_all_that_matched_and_nothing_that_came_later(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """However small the steps are; each row is written down once."""
    monkeypatch.setattr(actions, "STEP", 2)
    receipts(5)
    receipts(3, handler="other")
    operator = Caller("operator", *OPERATOR)
    body = {"reason": "many", "q": "handler:h"}
    told = operator.post("receipts/discard", body)
    receipts(2, handler="h2", key="late")
    Receipt.objects.filter(handler="h2").update(handler="h")

    changed = 0
    while told["next"]:
        told = operator.post("receipts/discard", body | {"step": told["next"]})
        changed += told["changed"]

    assert changed == 5
    assert LogEntry.objects.count() == 5
    left = Receipt.objects.filter(state="dead").order_by("pk").values_list("key", flat=True)
    assert list(left) == ["k", "k", "k", "late", "late"]


def test_a_step_that_is_asked_for_twice_changes_nothing_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As when its answer has got lost."""
    monkeypatch.setattr(actions, "STEP", 2)
    receipts(4)
    operator = Caller("operator", *OPERATOR)
    body = {"reason": "many", "q": "state:dead"}
    step = body | {"step": operator.post("receipts/discard", body)["next"]}

    first = operator.post("receipts/discard", step)
    operator.post("receipts/discard", body | {"step": first["next"]})
    again = operator.post("receipts/discard", step)

    assert (first["changed"], again["changed"]) == (2, 0)
    assert Receipt.objects.filter(state="discarded").count() == 4


def test_what_no_index_finds_is_done_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """No step looks at more than a part of the table."""
    monkeypatch.setattr(actions, "SPAN", 2)
    receipts(5)
    told = steps(Caller("operator", *OPERATOR), q="error:why")

    assert (told[0]["matching"], told[0]["more"]) == (2, True)
    assert sum(each["changed"] for each in told) == 5
    assert len(told) == 4


def test_a_step_belongs_to_its_filter_and_its_action() -> None:
    """With another it would do what nobody was told of."""
    receipts(2)
    operator = Caller("operator", *OPERATOR)
    step = operator.post("receipts/discard", {"reason": "many", "q": "state:dead"})["next"]

    for q in ("state:dead,processed", "handler:h"):
        body = {"reason": "many", "q": q, "step": step}
        assert operator.post("receipts/discard", body, status=400)["errors"]["step"]
    body = {"reason": "many", "q": "state:", "step": None}
    assert "needs a value" in str(operator.post("receipts/discard", body, status=400)["errors"])
    assert operator.post("receipts/discard", {"q": "state:dead"}, status=400)["errors"]["reason"]
    assert not Receipt.objects.filter(state="discarded").exists()


def test_many_take_the_permission_of_one_and_its_scope() -> None:
    """A viewer is refused; a tenant reaches its own."""
    receipts(2, key="tenant")
    receipts(2, handler="other", key="other")
    viewer = Caller("viewer", *VIEW)
    assert viewer.post("receipts/discard", {"reason": "many", "q": "state:dead"}, status=403)
    with override_settings(OUTBOX_API={"SCOPE": "tests.kit.api.mine"}):
        told = steps(Caller("tenant", *OPERATOR), q="state:dead")
    assert told[0]["matching"] == 2
    assert set(Receipt.objects.filter(state="discarded").values_list("key", flat=True)) == {
        "tenant"
    }


def test_lists_have_the_same_filter() -> None:
    """Read page by page; what cannot be looked for is told with its place."""
    numbers = receipts(3)
    receipts(2, state="processed", handler="other")
    viewer = Caller("viewer", *VIEW)
    first = viewer.get("receipts", q="state:dead handler:h", limit="2")
    second = viewer.get("receipts", q="state:dead handler:h", limit="2", cursor=first["older"])

    rows = [row["id"] for page in (first, second) for row in page["results"]]
    assert rows == [str(each) for each in reversed(numbers)]
    assert "another list" in str(viewer.get("receipts", cursor=first["older"], status=400))
    assert "at character" in str(viewer.get("receipts", q="stat:dead", status=400)["errors"]["q"])
    assert viewer.get("doings", q="x", status=400)


@pytest.mark.parametrize("q", ["", "  "])
def test_all_rows_of_a_list_are_no_filter(q: str) -> None:
    """Whoever forgets to say which rows discards none."""
    operator = Caller("operator", *OPERATOR)
    answer = operator.post("receipts/discard", {"reason": "many", "q": q}, status=400)
    assert answer["errors"]["q"]


def test_what_comes_to_match_after_the_beginning_is_not_meant() -> None:
    """Though its row is an older one: of receipts and of dead letters."""
    first, later = receipts(2)
    Receipt.objects.filter(pk=later).update(state="waiting")
    letters = [letter(n) for n in range(2)]
    DeadLetter.objects.filter(pk=letters[0]).update(state="discarded")
    operator = Caller("operator", *OPERATOR, "django_inbox.discard_deadletter")
    body = {"reason": "many", "q": "state:dead"}
    begun = {each: operator.post(each + "/discard", body)["next"] for each in BOUND}

    Receipt.objects.filter(pk=later).update(state="dead", changed=Now())
    assert restore_letters([letters[0]], using="default").changed == letters[:1]
    told = {
        each: operator.post(each + "/discard", body | {"step": step})
        for each, step in begun.items()
    }

    assert {each: (of["matching"], of["changed"]) for each, of in told.items()} == {
        "receipts": (1, 1),
        "dead-letters": (1, 1),
    }
    assert Receipt.objects.get(state="dead").pk == later
    assert DeadLetter.objects.get(state="dead").pk == letters[0]
    assert first != later


def test_a_step_of_retries_that_is_asked_for_twice_makes_nothing_due_again() -> None:
    """What it has made due has changed since the beginning."""
    numbers = receipts(2)
    operator = Caller("operator", *VIEW, "django_inbox.retry_receipt")
    body = {"reason": "many", "q": "handler:h"}
    step = body | {"step": operator.post("receipts/retry", body)["next"]}

    assert operator.post("receipts/retry", step)["changed"] == 2
    assert operator.post("receipts/retry", step)["changed"] == 0
    assert LogEntry.objects.count() == len(numbers)


BOUND = ("receipts", "dead-letters")


def letter(number: int) -> int:
    return DeadLetter.objects.create(
        group="g", reason="unknown_type", error="why", headers="{}", body=b"", digest=str(number)
    ).pk
