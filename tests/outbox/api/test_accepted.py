"""Ask over HTTP: accepted now, answered later, for nobody but who has asked."""

import json
import subprocess
import sys
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.db import connection, transaction
from django.test import Client, override_settings
from django.test.utils import CaptureQueriesContext

import outbox
from outbox.api.accepted import AcceptedView
from outbox.exceptions import ConfigurationError
from outbox.models import Message, Reply, Request, Settlement
from outbox.replies.progress import note
from outbox.testing import drain
from tests.kit.support import Registered
from tests.outbox.api.quoting import Many, Mapped, Quote, QuoteGiven

pytestmark = [
    pytest.mark.sqlite,
    pytest.mark.django_db(transaction=True),
    pytest.mark.usefixtures("_quoting"),
]
KEY = "Idempotency-Key"


class Visitor:
    """Somebody who asks for quotes."""

    def __init__(self, name: str = "", **about: Any) -> None:
        self.client = Client()
        if name:
            self.user = User.objects.create_user(name, **about)
            self.client.force_login(self.user)

    def ask(self, body: Any = None, where: str = "quotes", **headers: str) -> Any:
        body = {"basket_id": 21} if body is None else body
        sent = body if isinstance(body, bytes) else json.dumps(body)
        return self.client.post(
            f"/shop/{where}", sent, content_type="application/json", headers=_sent(headers)
        )

    def get(self, address: str, **headers: str) -> Any:
        return self.client.get(address, headers=_sent(headers))

    def cancel(self, address: str) -> Any:
        return self.client.delete(address)


def _sent(headers: dict[str, str]) -> dict[str, str]:
    return {name.replace("_", "-"): value for name, value in headers.items()}


@pytest.fixture
def visitor() -> Visitor:
    return Visitor("visitor")


def problem(response: Any, status: int, name: str) -> dict[str, Any]:
    """Return a problem; fail if it is another one."""
    said: dict[str, Any] = response.json()
    assert (response.status_code, said["type"].partition("#")[2]) == (status, name), said
    assert response["Content-Type"] == "application/problem+json"
    assert said["status"] == status
    return said


class TestAsk:
    """POST."""

    def test_it_is_accepted(self, visitor: Visitor) -> None:
        """With where to ask for the result, and when."""
        response = visitor.ask()
        said = response.json()
        row = Request.objects.get()

        assert response.status_code == 202
        assert response["Location"] == response["Content-Location"] == f"/shop/quotes/{said['id']}"
        assert response["Retry-After"] == "1"
        assert response["Cache-Control"] == "private, no-cache"
        assert "Prefer" in response["Vary"]
        assert not response.has_header("Preference-Applied")
        assert said["id"] == str(row.message_id)
        assert said["deadline"].endswith("Z")
        assert row.deadline - row.asked_at == timedelta(minutes=2)
        assert row.owner == str(visitor.user.pk)
        expected = {"state": "pending", "type": "quoting.quote", "result": None, "error": None}
        assert said | expected == said
        assert Message.objects.get().key == "21"

    def test_it_is_answered(self, visitor: Visitor) -> None:
        """Its result is there as long as the request is."""
        where = visitor.ask()["Location"]
        drain()
        response = visitor.get(where)
        said = response.json()

        assert response.status_code == 200
        assert said["state"] == "answered"
        assert said["settled_at"]
        assert said["result"]["type"] == "quoting.given"
        assert said["result"]["data"] == {"amount": 42}
        assert not response.has_header("Retry-After")

    def test_no_is_an_answer(self, visitor: Visitor) -> None:
        where = visitor.ask({"basket_id": -1})["Location"]
        drain()
        said = visitor.get(where).json()
        assert (said["state"], said["result"]["type"]) == ("answered", "quoting.declined")

    @pytest.mark.parametrize(
        ("body", "word"),
        [
            ({}, "basket_id"),
            ({"basket_id": "many"}, "Expected `int`"),
            ({"basket_id": 1, "colour": "red"}, "unknown fields colour"),
            ([], "mapping"),
            (7, "mapping"),
            (None, "mapping"),
            ({"basket_id": 1, "note": "a\x00b"}, "NUL"),
            (b"{", "JSON"),
            (b"[" * 100_000, "deep"),
            (b"\xff", "utf-8"),
        ],
    )
    def test_what_is_no_request(self, visitor: Visitor, body: Any, word: str) -> None:
        """Nothing is written, and the text says what is wrong."""
        sent = b"null" if body is None else body
        said = problem(visitor.ask(sent), 400, "invalid")
        assert word in json.dumps(said)
        assert not Message.objects.exists()

    def test_another_media_type(self, visitor: Visitor) -> None:
        response = visitor.client.post("/shop/quotes", "a=b", content_type="text/plain")
        problem(response, 415, "media-type")

    def test_other_methods(self, visitor: Visitor) -> None:
        problem(visitor.get("/shop/quotes"), 405, "method")
        where = visitor.ask()["Location"]
        problem(visitor.client.put(where), 405, "method")
        assert visitor.client.head(where).status_code == 200

    def test_nobody_asks(self) -> None:
        """A user has to be known, or the view says who asks."""
        problem(Visitor().ask(), 403, "forbidden")
        assert not Message.objects.exists()

    def test_a_body_of_another_form(self) -> None:
        """The serializer and the view say what it asks for, and by whom."""
        anybody = Visitor()
        said = anybody.ask({"number": 0}, "mapped", X_Visitor="ann")
        assert problem(said, 400, "invalid")["errors"]["number"]
        response = anybody.ask({"number": 3, "word": "x"}, "mapped", X_Visitor="ann")
        drain()

        said = anybody.get(response["Location"], X_Visitor="ann").json()
        assert said["result"]["data"] == {"amount": 6}
        assert json.loads(bytes(Message.objects.get(type="quoting.quote").data))["note"] == "x"
        problem(anybody.get(response["Location"], X_Visitor="bob"), 404, "not-found")
        problem(anybody.get(response["Location"]), 403, "forbidden")

    def test_what_belongs_to_it_is_in_its_transaction(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Once for each new request; what fails takes the request back."""
        anybody = Visitor()
        first = anybody.ask({"number": 3}, "mapped", X_Visitor="a", **{KEY: "1"}).json()["id"]
        again = anybody.ask({"number": 3}, "mapped", X_Visitor="a", **{KEY: "1"}).json()["id"]
        assert Mapped.written == [first] == [again]
        assert Message.objects.filter(type="quoting.noted").count() == 1

        monkeypatch.setattr(Mapped, "refuses", True)
        refused = anybody.ask({"number": 4}, "mapped", X_Visitor="a", **{KEY: "2"})
        assert problem(refused, 400, "invalid")["errors"]["number"] == ["It is not for sale."]
        assert Request.objects.count() == 1

    def test_several_answers(self, visitor: Visitor) -> None:
        """Those that have come are there, and all of them settle it."""
        response = visitor.ask(where="many")
        row = Request.objects.get()
        assert response.json()["result"] == []
        assert row.deadline - row.asked_at == timedelta(seconds=30)
        drain()
        said = visitor.get(response["Location"]).json()
        assert said["state"] == "pending"
        assert [each["data"] for each in said["result"]] == [{"amount": 42}]


class TestStanding:
    """GET."""

    def test_an_etag(self, visitor: Visitor) -> None:
        """Who has seen it is told so, until something changes."""
        response = visitor.ask()
        where = response["Location"]
        first = visitor.get(where)
        seen = visitor.get(where, If_None_Match=first["ETag"])

        assert first["ETag"] == response["ETag"]
        assert (seen.status_code, seen.content) == (304, b"")
        assert seen["ETag"] == first["ETag"]
        assert seen["Cache-Control"] == "private, no-cache"
        assert seen["Retry-After"]
        drain()
        changed = visitor.get(where, If_None_Match=first["ETag"])
        assert changed.status_code == 200
        assert changed.json()["state"] == "answered"

    def test_progress(self, visitor: Visitor) -> None:
        """What whoever answers says of it, which is news to who has seen it before."""
        response = visitor.ask()
        where = response["Location"]
        assert response.json()["progress"] is None
        note(response.json()["id"], {"done": 0.4, "text": "rated"}, None, using="default")
        said = visitor.get(where, If_None_Match=response["ETag"])
        assert said.status_code == 200
        progress = said.json()["progress"]
        assert (progress["done"], progress["text"]) == (0.4, "rated")
        assert progress["at"].endswith("Z")
        assert said.json()["state"] == "pending"

    def test_when_to_ask_again(self, visitor: Visitor) -> None:
        """What others of this type took tells; not what another type took."""
        for number in range(3):
            visitor.ask({"basket_id": number})
        drain()
        row = Request.objects.first()
        assert row is not None
        Settlement.objects.update(settled_at=row.asked_at + timedelta(seconds=40))
        response = visitor.ask()
        assert int(response["Retry-After"]) in range(35, 41)
        assert int(visitor.get(response["Location"])["Retry-After"]) in range(35, 41)
        Request.objects.filter(settlement__isnull=False).update(type="quoting.other")
        assert visitor.ask()["Retry-After"] == "1"

    def test_a_stranger(self, visitor: Visitor) -> None:
        """Is told what everybody is told of a request that there is not."""
        where = visitor.ask()["Location"]
        stranger = Visitor("stranger")
        nowhere = "/shop/quotes/00000000-0000-0000-0000-000000000000"
        told = [problem(stranger.get(each), 404, "not-found") for each in (where, nowhere)]
        assert told[0] == told[1]
        problem(stranger.cancel(where), 404, "not-found")
        problem(Visitor().get(where), 403, "forbidden")
        assert visitor.get(where).json()["state"] == "pending"

    @pytest.mark.parametrize("id", ["x", "0", "%00", "é", "9" * 300])
    def test_what_is_no_id(self, visitor: Visitor, id: str) -> None:
        problem(visitor.get(f"/shop/quotes/{id}"), 404, "not-found")

    def test_a_request_of_another_type(self, visitor: Visitor) -> None:
        """Is not there: each view has its own."""
        where = visitor.ask()["Location"]
        Request.objects.update(type="quoting.other")
        problem(visitor.get(where), 404, "not-found")

    def test_staff(self, visitor: Visitor) -> None:
        """With the permissions to view requests and data, in its scope."""
        where = visitor.ask()["Location"]
        staff = Visitor("staff", is_staff=True)
        problem(staff.get(where), 404, "not-found")
        for codename in ("view_request", "view_data"):
            staff.user.user_permissions.add(Permission.objects.get(codename=codename))
        assert staff.get(where).json()["state"] == "pending"
        with override_settings(OUTBOX_API={"SCOPE": "tests.outbox.api.test_accepted.nothing"}):
            problem(staff.get(where), 404, "not-found")
            assert visitor.get(where).status_code == 200
        assert "has an action" in problem(staff.cancel(where), 403, "forbidden")["detail"]

    @pytest.mark.parametrize(
        ("outcome", "name"),
        [
            ("failed", "request-failed"),
            ("expired", "request-expired"),
            ("cancelled", "request-cancelled"),
        ],
    )
    def test_an_end_without_a_result(self, visitor: Visitor, outcome: str, name: str) -> None:
        """It was found, so it is 200; the problem is in it."""
        response = visitor.ask()
        row = Request.objects.get()
        Settlement.objects.create(
            request=row, outcome=outcome, settled_at=row.asked_at, reason="CarrierAway"
        )
        said = visitor.get(response["Location"])
        assert said.status_code == 200
        assert (said.json()["state"], said.json()["result"]) == (outcome, None)
        assert said.json()["error"]["type"].endswith(f"#{name}")
        assert said.json()["error"]["detail"] == "CarrierAway"

    @pytest.mark.parametrize(
        ("about", "data"),
        [
            ({"data": b'{"amount": "many"}'}, None),
            ({"data": b"{"}, None),
            ({"data": b"\xff", "content_type": "image/png"}, None),
            ({"data": b'{"x": 1}', "type": "stranger.came"}, {"x": 1}),
            ({"data": b"\xff", "content_type": "image/png", "type": "stranger.came"}, None),
            ({"data": b'{"amount": 1, "secret": 2}'}, {"amount": 1}),
        ],
    )
    def test_a_reply_of_a_stranger(
        self, visitor: Visitor, about: dict[str, Any], data: Any
    ) -> None:
        """What is none of its type is no error of ours; what its class lacks is left out."""
        where = visitor.ask()["Location"]
        row = Request.objects.get()
        Settlement.objects.create(request=row, outcome="answered", settled_at=row.asked_at)
        Reply.objects.create(
            **{"type": "quoting.given", "content_type": "application/json"}
            | {"request": row, "message_id": "1", "source": "/x", "version": 1, "number": 1}
            | {"received_at": row.asked_at}
            | about
        )
        said = visitor.get(where).json()
        assert said["result"]["data"] == data
        assert (said["error"] is None) == (data is not None)


def nothing(request: Any, rows: Any) -> Any:
    """Scope of these tests: nobody sees anything."""
    return rows.none()


class TestCancel:
    """DELETE."""

    def test_it_is_cancelled_once(self, visitor: Visitor) -> None:
        """And again, which changes nothing."""
        where = visitor.ask()["Location"]
        for _ in range(2):
            said = visitor.cancel(where)
            assert (said.status_code, said.json()["state"]) == (200, "cancelled")
        assert Settlement.objects.get().by == str(visitor.user.pk)
        drain()
        assert visitor.get(where).json()["result"] is None

    def test_what_has_ended_is_a_conflict(self, visitor: Visitor) -> None:
        """With its true state."""
        where = visitor.ask()["Location"]
        drain()
        assert problem(visitor.cancel(where), 409, "conflict")["state"] == "answered"
        assert visitor.get(where).json()["state"] == "answered"


class TestStatements:
    """What it costs, for somebody whom a header tells, and who takes no statement."""

    @pytest.mark.parametrize("requests", [0, 30])
    def test_as_many_however_many_rows(self, requests: int) -> None:
        """What ask() takes and two; two while it is pending, two when it is answered."""
        for number in range(requests):
            with transaction.atomic():
                outbox.ask(Quote(number))
        drain()
        with CaptureQueriesContext(connection) as asking, transaction.atomic():
            outbox.ask(Quote(1), owner="ann", idempotency_key="0")
        anybody = Visitor()

        with CaptureQueriesContext(connection) as posted:
            response = anybody.ask({"number": 1}, "plain", X_Visitor="ann", **{KEY: "1"})
        assert response.status_code == 202
        assert len(posted) == len(asking) + 2
        with CaptureQueriesContext(connection) as repeated:
            again = anybody.ask({"number": 1}, "plain", X_Visitor="ann", **{KEY: "1"})
        assert again.json() == response.json()
        assert len(repeated) == 5  # BEGIN, who has this key, COMMIT, and two
        where = response["Location"]
        assert len(self.polled(anybody, where)) == 2
        seen = self.polled(anybody, where, If_None_Match=response["ETag"])
        assert len(seen) == 2
        drain()
        assert len(self.polled(anybody, where)) == 2

    @staticmethod
    def polled(anybody: Visitor, where: str, **headers: str) -> CaptureQueriesContext:
        with CaptureQueriesContext(connection) as captured:
            anybody.get(where, X_Visitor="ann", **headers)
        return captured


def test_a_view_of_nothing() -> None:
    """Says so at start."""
    with pytest.raises(ConfigurationError, match="say what it asks"):
        AcceptedView.as_view({"post": "create"})

    class Given(AcceptedView):
        request_type = QuoteGiven

    with pytest.raises(ConfigurationError, match="is no request"):
        Given.as_view({"post": "create"})


def test_a_request_without_a_class(
    visitor: Visitor, monkeypatch: pytest.MonkeyPatch, registered: Registered
) -> None:
    """It is named, and its body is what it says."""
    registered("quoting.free", within=timedelta(hours=1))
    monkeypatch.setattr(Many, "request_type", "quoting.free")
    response = visitor.ask({"a": [1, None]}, where="many")
    assert response.json()["type"] == "quoting.free"
    assert json.loads(bytes(Message.objects.get().data)) == {"a": [1, None]}


def test_under_a_project_without_the_admin() -> None:
    """The views need Django REST framework, and nothing of the admin."""
    program = """
import django
from django.conf import settings
settings.configure(
    INSTALLED_APPS=["outbox", "relay", "inbox"],
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
    RELAYS={"default": {"BACKEND": "relay.brokers.local.LocalBroker"}},
)
django.setup()
from outbox.api.accepted import AcceptedView
"""
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr
