"""What people see of breaks and do about them, in the admin and through the API."""

from collections.abc import Collection, Iterator
from datetime import timedelta

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission, User
from django.db.models import F
from django.test import Client

from outbox.exceptions import OutboxError
from outbox.models import Break, Reconciliation
from outbox.statements.buckets import MINUTE
from outbox.states import BreakState
from tests.inbox.statements.support import NOW, Both, breaks, emitted, reconciling
from tests.inbox.support import Handling
from tests.kit.admin_pages import ALL_MODELS, detail_url, list_url, log_in, page, rows, shown
from tests.kit.api import Caller

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.sqlite]
CAN = ("django_outbox.view_break", "django_outbox.repair_break", "django_outbox.accept_break")


@pytest.fixture
def both(handling: Handling) -> Iterator[Both]:
    """A sender and a group, of which the group has lost the second of three messages."""
    handling()
    with reconciling() as found:
        found.round()
        Reconciliation.objects.update(stated=NOW + 60 * MINUTE, closed=NOW + 60 * MINUTE)
        sent = emitted(NOW, NOW + 1, NOW + MINUTE)
        found.lost = {sent[1].id}
        found.settle()
        found.compare()
        yield found


@pytest.fixture
def staff(client: Client) -> Client:
    log_in(client, *ALL_MODELS, "django_outbox.break")
    return client


def allow(*permissions: str) -> None:
    user = User.objects.get(username="viewer")
    user.user_permissions.add(*Permission.objects.filter(codename__in=permissions))


def other(kind: str = "unknown", state: str = "open") -> Break:
    return Break.objects.create(
        group="other", kind=kind, message_id="m", type="a.b", start=NOW, state=state
    )


def test_the_list_names_what_differs(both: Both, staff: Client) -> None:
    """By the grammar of all filters."""
    found = Break.objects.get()
    told = shown(page(staff, list_url(Break)))
    assert "missing there" in told
    assert "open" in told
    second = other()
    for query, wanted in (
        ("state:open kind:missing", [found]),
        ("group:other", [second]),
        ("type:tests.*", [found]),
        (f"id:{found.message_id}", [found]),
        ("state:accepted", []),
        ("by:anna", []),
        ("age:<1h", [second, found]),
    ):
        assert rows(staff, list_url(Break, f"?q={query}")) == wanted, query


def test_a_break_shows_the_two_sides(both: Both, staff: Client) -> None:
    """What of the message is known here, and what the group has told of it."""
    told = shown(page(staff, detail_url(Break.objects.get())))
    here, there = told.partition("There: group g")[::2]
    assert "emitted" in here
    assert "no receipt" in there
    unknown = other()
    told = shown(page(staff, detail_url(unknown)))
    assert "not there" in told.partition("There: group other")[0]


def test_what_is_done_takes_a_permission(both: Both, staff: Client) -> None:
    found = Break.objects.get()
    url = detail_url(found)
    assert "Repair" not in page(staff, url)
    for verb in ("repair", "accept"):
        sent = staff.post(url.replace("change", verb), {"reason": "I want it"})
        assert sent.status_code == 403
    assert both.again == []
    assert Break.objects.get().state == BreakState.OPEN


def test_repair(both: Both, staff: Client) -> None:
    """It is published again to that group alone, not without a reason, and then says so itself."""
    allow("repair_break")
    found = Break.objects.get()
    url = detail_url(found).replace("change", "repair")
    assert "required" in page(staff, url)

    assert "Why" in shown(staff.post(url).content.decode())
    assert both.again == []
    answer = staff.post(url, {"reason": "Purged by mistake"}, follow=True)
    assert "published again, to this group alone" in shown(answer.content.decode())
    assert both.again == [found.message_id]
    answer = staff.post(url, {"reason": "Once more"}, follow=True)
    assert "not twice within a minute" in shown(answer.content.decode())
    assert both.again == [found.message_id]
    entry = LogEntry.objects.get()
    assert entry.change_message == "Published again, to this group. Purged by mistake"
    assert Break.objects.get().by == "viewer"
    both.round()
    assert breaks("repaired") == {"missing": [found.message_id]}


def test_only_what_is_missing_is_repaired(both: Both, staff: Client) -> None:
    """Of several that are selected, the others are left alone; an error is told."""
    allow("repair_break", "accept_break")
    unknown = other()
    assert "Repair" not in page(staff, detail_url(unknown))
    assert "Accept" in page(staff, detail_url(unknown))
    data = {
        "action": "repair_selected",
        "_selected_action": [str(each.pk) for each in Break.objects.all()],
    }
    asked = shown(staff.post(list_url(Break), data).content.decode())
    assert "Repair 1 break?" in asked
    assert "1 other that was selected is left alone" in asked
    answer = staff.post(list_url(Break), {**data, "confirmed": "yes"})
    assert "Repair 1 break?" in shown(answer.content.decode())  # nobody has said why
    assert both.again == []
    staff.post(list_url(Break), {**data, "confirmed": "yes", "reason": "Purged"})
    assert len(both.again) == 1


def test_a_relay_that_cannot_is_told(
    both: Both, staff: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a message on the page, and as an answer of the API; that it was begun stays on record."""

    def refuse(message_ids: Collection[str], **about: str) -> list[str]:
        raise OutboxError("The broker is away.")

    monkeypatch.setattr(both, "resend", refuse)
    allow("repair_break")
    found = Break.objects.get()
    url = detail_url(found).replace("change", "repair")
    answer = staff.post(url, {"reason": "Purged"}, follow=True)
    assert "It was not published again: The broker is away." in shown(answer.content.decode())
    told = Caller("anna", *CAN).post(f"breaks/{found.pk}/repair", status=502)
    assert "The broker is away." in told["detail"]
    begun = "Begun, and not known to be done. Published again, to this group."
    said = LogEntry.objects.order_by("pk").values_list("change_message", flat=True)
    assert list(said) == [f"{begun} Purged", f"{begun} the tests want it"]


def test_accept(both: Both, staff: Client) -> None:
    """With the reason and who it was; and it stays so, whatever the group answers."""
    allow("accept_break")
    found = Break.objects.get()
    url = detail_url(found).replace("change", "accept")
    staff.post(url)
    assert Break.objects.get().state == BreakState.OPEN
    staff.post(url, {"reason": "Refunded by hand"})
    both.compare()
    found.refresh_from_db()
    assert (found.state, found.reason, found.by) == ("accepted", "Refunded by hand", "viewer")
    told = shown(page(staff, detail_url(found)))
    assert "Refunded by hand" in told


def test_through_the_api(both: Both) -> None:
    """Lists, rows and actions; twice is as once, and what is in another state is a conflict."""
    caller = Caller("anna", *CAN, "django_outbox.view_reconciliation")
    found = Break.objects.get()
    [item] = caller.get("breaks?q=state:open")["results"]
    assert (item["id"], item["message_id"], item["kind"]) == (
        str(found.pk),
        found.message_id,
        "missing",
    )
    assert caller.get(f"breaks/{found.pk}")["time"].startswith("20")
    caller.post(f"breaks/{found.pk}/repair", {}, status=400)

    told = [caller.post(f"breaks/{found.pk}/repair") for _ in range(2)]
    assert [(each["changed"], each["state"]) for each in told] == [(True, "open"), (False, "open")]
    assert both.again == [found.message_id]
    Break.objects.update(replayed_at=F("replayed_at") - timedelta(minutes=2))
    assert caller.post(f"breaks/{found.pk}/repair")["changed"]

    both.round()
    assert caller.post(f"breaks/{found.pk}/repair", status=409)["state"] == "repaired"
    assert caller.post(f"breaks/{found.pk}/accept", status=409)["state"] == "repaired"
    unknown = other()
    conflict = caller.post(f"breaks/{unknown.pk}/repair", status=409)
    assert (conflict["state"], "not missing there" in conflict["detail"]) == ("open", True)
    told = [caller.post(f"breaks/{unknown.pk}/accept") for _ in range(2)]
    assert [(each["changed"], each["state"]) for each in told] == [
        (True, "accepted"),
        (False, "accepted"),
    ]
    unknown.refresh_from_db()
    assert (unknown.by, unknown.reason) == ("anna", "the tests want it")


def test_the_api_takes_permissions(both: Both) -> None:
    """One to look, one for each action."""
    found = Break.objects.get()
    Caller("nobody").get("breaks", status=403)
    looks = Caller("looks", "django_outbox.view_break")
    looks.get("reconciliations", status=403)
    for verb in ("repair", "accept"):
        looks.post(f"breaks/{found.pk}/{verb}", status=403)
        looks.post(f"breaks/{verb}", {"q": "state:open", "reason": "x"}, status=403)
    assert both.again == []


def test_many_are_accepted_by_a_filter(both: Both) -> None:
    """First it is told how many, then they are, step by step."""
    caller = Caller("anna", *CAN)
    other(), other("unsettled")
    ahead = caller.post("breaks/accept", {"q": "kind:missing", "reason": "Refunded"})
    assert (ahead["matching"], ahead["changed"]) == (1, 0)
    done = caller.post(
        "breaks/accept", {"q": "kind:missing", "reason": "Refunded", "step": ahead["next"]}
    )
    assert (done["changed"], done["next"]) == (1, None)
    assert list(breaks("open")) == ["unknown", "unsettled"]
    assert caller.post("breaks/repair", {"q": "state:open", "reason": "x"})["matching"] == 0


def test_how_far_groups_are_compared(both: Both) -> None:
    """With what each has told of itself."""
    caller = Caller("anna", "django_outbox.view_break", "django_outbox.view_reconciliation")
    [item] = caller.get("reconciliations")["results"]
    assert (item["id"], item["unanswered"], item["has_breaks"]) == ("g", False, True)
    full = caller.get("reconciliations/g")
    assert full["handles"] == ["tests.happened"]
    assert [each["topic"] for each in full["topics"]] == ["#"]
    assert full["answered_at"] is not None
    caller.get("reconciliations/nobody", status=404)
