"""Parked messages and relays through the API: who may do what, and what comes of it."""

import pytest
from django.contrib.admin.models import LogEntry
from django.db.models.functions import Now
from django.test import override_settings

from relay.models import Parked
from tests.kit.api import VIEW, WHY, Caller

pytestmark = [pytest.mark.sqlite, pytest.mark.django_db]
OPERATOR = (*VIEW, "django_relay.requeue_parked", "django_relay.discard_parked")


def park(position: int = 1, *, key: str | None = None, state: str = "dead") -> Parked:
    return Parked.objects.create(
        relay="default",
        lane=0,
        position=position,
        message_id=f"00000000-0000-4000-8000-{position:012}",
        type="a.b",
        topic="a.b",
        key=key,
        state=state,
        reason="refused",
        error="password=hunter2 was wrong",
        parked_at=Now(),
    )


def test_a_viewer_looks_and_does_nothing() -> None:
    """Errors are shown without secrets; an action names the permission that is missing."""
    row, viewer = park(), Caller("viewer", *VIEW)

    [shown] = viewer.get("parked")["results"]
    assert shown == viewer.get(f"parked/{row.pk}")
    assert (shown["id"], shown["state"], shown["position"]) == (str(row.pk), "dead", "1")
    assert "hunter2" not in shown["error"]
    for verb in ("requeue", "discard", "restore"):
        assert viewer.post(f"parked/{row.pk}/{verb}", status=403)["type"].endswith("#forbidden")
    assert Parked.objects.get().state == "dead"


@pytest.mark.parametrize("verb", ["requeue", "discard"])
def test_each_action_takes_its_own_permission(verb: str) -> None:
    """One of them does not stand in for another."""
    row = park()
    one = Caller("one", *VIEW, f"django_relay.{verb}_parked")
    other = {"requeue": "discard", "discard": "requeue"}[verb]

    assert one.post(f"parked/{row.pk}/{other}", status=403)
    assert one.post(f"parked/{row.pk}/{verb}")["changed"]


def test_to_act_it_takes_to_see() -> None:
    """The permission to discard is of no use without the one to view."""
    row = park()
    blind = Caller("blind", "django_relay.discard_parked")
    assert "view_parked" in blind.post(f"parked/{row.pk}/discard", status=403)["detail"]


def test_an_action_is_written_down_with_its_reason() -> None:
    """Where the pages of the admin write it; a second time it changes nothing."""
    row, operator = park(), Caller("operator", *OPERATOR)

    first = operator.post(f"parked/{row.pk}/discard")
    second = operator.post(f"parked/{row.pk}/discard")

    assert first == {"id": str(row.pk), "changed": True, "state": "discarded"}
    assert second == {"id": str(row.pk), "changed": False, "state": "discarded"}
    row.refresh_from_db()
    assert (row.state, row.settled_by) == ("discarded", "operator")
    assert LogEntry.objects.get().change_message == f"Discarded. {WHY['reason']}"


def test_what_has_moved_on_is_a_conflict_with_its_true_state() -> None:
    """Nothing is done to it, nor written down."""
    operator = Caller("operator", *OPERATOR)
    for position, state in enumerate(("published", "waiting"), 1):
        row = park(position, state=state)
        said = operator.post(f"parked/{row.pk}/requeue", status=409)
        assert said["state"] == state
    gone = park(7, state="discarded")
    assert operator.post(f"parked/{gone.pk}/restore", status=409)["state"] == "discarded"
    assert not LogEntry.objects.exists()


def test_a_reason_is_asked_for() -> None:
    """It must be a text that the log can keep."""
    row, operator = park(), Caller("operator", *OPERATOR)
    for body in ({}, {"reason": ""}, {"reason": " "}, {"reason": "a\0b"}, {"reason": "x" * 501}):
        assert operator.post(f"parked/{row.pk}/discard", body, status=400)["errors"]["reason"]
    for body in ([], "no JSON", "1", "null", None):
        assert operator.post(f"parked/{row.pk}/discard", body, status=400)["title"]
    sent = operator.client.post(f"/api/parked/{row.pk}/discard", {"reason": "a form"})
    assert sent.status_code == 415
    sent = operator.client.post(
        f"/api/parked/{row.pk}/discard", "{", content_type="application/json"
    )
    assert sent.status_code == 400


def test_a_tenant_acts_on_its_own() -> None:
    """What is another's is not there for it."""
    own, other = park(1, key="tenant"), park(2, key="other")
    tenant = Caller("tenant", *OPERATOR)
    with override_settings(OUTBOX_API={"SCOPE": "tests.kit.api.mine"}):
        assert [row["id"] for row in tenant.get("parked")["results"]] == [str(own.pk)]
        assert tenant.post(f"parked/{other.pk}/discard", status=404)
        assert tenant.post(f"parked/{own.pk}/discard")["changed"]
    other.refresh_from_db()
    assert other.state == "dead"


def test_what_waits_names_what_it_waits_for() -> None:
    """By its id."""
    first, second = park(1, key="k"), park(2, key="k", state="waiting")
    shown = Caller("viewer", *VIEW).get(f"parked/{second.pk}")
    assert shown["behind"] == str(first.pk)


def test_relays_tell_how_far_they_are() -> None:
    """In each lane; there is none of another name."""
    park()
    viewer = Caller("viewer", *VIEW)
    [relay] = viewer.get("relays")["results"]

    assert relay == viewer.get("relays/default")
    assert (relay["name"], relay["configured"]) == ("default", True)
    assert relay["lanes"][0]["dead"] == 1
    assert viewer.get("relays/none", status=404)
    assert Caller("half", "django_relay.view_parked").get("relays", status=403)


def test_what_comes_to_match_after_the_beginning_is_not_meant() -> None:
    """Though it was parked before."""
    one, later = park(1), park(2, state="parked")
    operator = Caller("operator", *OPERATOR)
    body = {"reason": "many", "q": "state:dead"}
    begun = operator.post("parked/discard", body)
    Parked.objects.filter(pk=later.pk).update(state="dead", changed=Now())

    done = operator.post("parked/discard", body | {"step": begun["next"]})

    assert (begun["matching"], done["changed"]) == (1, 1)
    assert Parked.objects.get(state="dead").pk == later.pk
    assert Parked.objects.get(pk=one.pk).changed is not None
