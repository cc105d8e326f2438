"""The description of the API is true: it is up to date, valid, and what is answered is in it."""

from base64 import b64encode
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import User
from django.core.management import call_command
from django.core.signals import request_finished, request_started
from django.core.wsgi import get_wsgi_application
from django.db import close_old_connections, transaction
from django.test import override_settings
from django.utils import timezone
from drf_spectacular import plumbing
from drf_spectacular.drainage import GENERATOR_STATS
from drf_spectacular.generators import SchemaGenerator
from drf_spectacular.validation import validate_schema
from hypothesis import HealthCheck, Phase, given, settings

import outbox
from inbox.models import DeadLetter, OpenRequest, Receipt
from outbox.api import problems
from outbox.api.document import as_yaml, document
from outbox.models import Acknowledgement, Break, Reconciliation
from outbox.operations import write_down
from relay.models import Parked
from tests.inbox.support import happened, receive
from tests.kit.api import VIEW, Caller
from tests.kit.support import Registered
from tests.relay.api.test_parked import park

ROOT = Path(__file__).resolve().parents[3]
EXAMPLES = 3
"""For each of the operations; and as many about rows that are there."""
ACT = (
    "django_relay.replay_checkpoint",
    "django_outbox.view_data",
    "django_outbox.cancel_scheduled",
    "django_outbox.cancel_request",
    "django_outbox.resend_acknowledgement",
    "django_outbox.give_up_acknowledgement",
    "django_outbox.repair_break",
    "django_outbox.accept_break",
    "django_outbox.change_failurenote",
    "django_inbox.answer_openrequest",
    *(f"django_relay.{verb}_parked" for verb in ("requeue", "discard")),
    *(
        f"django_inbox.{verb}_{model}"
        for verb in ("retry", "edit", "discard")
        for model in ("receipt", "deadletter")
    ),
)


def test_the_committed_description_is_up_to_date(capsys: pytest.CaptureFixture[str]) -> None:
    """What `manage.py outbox_openapi > docs/reference/openapi.yaml` would write is there."""
    call_command("outbox_openapi")
    assert capsys.readouterr().out == (ROOT / "docs/reference/openapi.yaml").read_text()


def test_the_description_is_valid() -> None:
    """Nothing in it had to be guessed."""
    document.cache_clear()
    validate_schema(document())
    assert not GENERATOR_STATS


def test_it_does_not_matter_what_else_is_described() -> None:
    """The project's own views, by its own settings, before ours or after."""
    before = document()
    SchemaGenerator(patterns=[]).get_schema(public=True)  # type: ignore[no-untyped-call]
    document.cache_clear()
    plumbing.load_enum_name_overrides()
    assert document() == before
    assert plumbing.load_enum_name_overrides() == {}


@pytest.mark.django_db
def test_it_is_served_where_the_api_is() -> None:
    """To everybody who is known."""
    assert as_yaml(Caller("nobody").get("openapi")) == as_yaml(document())


def test_every_problem_has_a_place_in_the_documentation() -> None:
    """Its type names a heading of the page."""
    page = (ROOT / "docs/how-to/api.md").read_text()
    for kind in problems.Kind:
        assert f"`{kind.uri.partition('#')[2]}`" in page


def rows() -> dict[str, list[str]]:
    """Make a row of each kind; return their ids by resource."""
    with transaction.atomic():
        one = outbox.emit("api.told", {"n": 1, "token": "t"}, key="k").id
        later = outbox.emit("api.told", {}, delay=timedelta(hours=1)).id
        asked = outbox.ask("api.asked", {"n": 1}).id
    receive(happened(1, type="tests.unknown"))
    receipt = Receipt.objects.create(
        handler="h",
        source="/s",
        message_id="m",
        type="a.b",
        state="dead",
        place=0,
        headers="{}",
        body=b"{}",
        error="why",
    )
    opened = OpenRequest.objects.create(
        message_id="m", source="/s", type="a.b", version=1, handler="h", correlation_id="m"
    )
    awaited = Acknowledgement.objects.create(
        message_id=one,
        group="g",
        type="a.b",
        state="missing",
        sent_at=timezone.now(),
        within=1,
        resends=0,
        most=1,
    )
    Reconciliation.objects.create(group="g", closed=0, stated=0)
    broken = Break.objects.create(
        group="g",
        kind="missing",
        message_id=one,
        type="a.b",
        start=0,
        state="open",
        replayed_at=timezone.now(),  # so that nothing is published
    )
    write_down([park()], "Tried.", user=User.objects.get())
    return {
        "messages": [one],
        "scheduled": [later],
        "requests": [asked],
        "acknowledgements": [str(awaited.pk)],
        "reconciliations": ["g"],
        "breaks": [str(broken.pk)],
        "conversations": [one],
        "receipts": [str(receipt.pk)],
        "dead-letters": [str(pk) for pk in DeadLetter.objects.values_list("pk", flat=True)],
        "open-requests": [str(opened.pk)],
        "parked": [str(pk) for pk in Parked.objects.values_list("pk", flat=True)],
        "failures": ["receipts"],
        "relays": ["default"],
        "groups": ["tests"],
        "doings": [str(LogEntry.objects.get().pk)],
    }


@pytest.fixture
def _one_transaction() -> Iterator[None]:
    """Requests of WSGI leave the connection of the test alone, as those of Django's client do."""
    signals = (request_started, request_finished)
    for signal in signals:
        signal.disconnect(close_old_connections)
    yield
    for signal in signals:
        signal.connect(close_old_connections)


@pytest.mark.django_db
@pytest.mark.usefixtures("_one_transaction")
@override_settings(
    ALLOWED_HOSTS=["localhost"],
    OUTBOX_API={"READ_RATE": "", "ACT_RATE": ""},
    PASSWORD_HASHERS=["django.contrib.auth.hashers.MD5PasswordHasher"],
)
def test_nothing_is_answered_that_is_not_described(registered: Registered) -> None:
    """Whatever is asked: no error of ours, no status and no shape that the description lacks."""
    schemathesis = pytest.importorskip("schemathesis")
    from schemathesis import checks  # noqa: PLC0415 - behind the skip

    registered("api.told")
    registered("api.asked", within=timedelta(hours=1))
    caller = Caller("caller", *VIEW, *ACT)
    caller.user.set_password("p")
    caller.user.save()
    known = rows()
    schema = schemathesis.openapi.from_dict(document())
    schema.app = get_wsgi_application()
    headers = {"Authorization": f"Basic {b64encode(b'caller:p').decode()}"}
    asked = [
        checks.not_a_server_error,
        checks.status_code_conformance,
        checks.content_type_conformance,
        checks.response_schema_conformance,
    ]
    seen: set[tuple[str, int]] = set()

    def probe(operation: Any, *, real: bool) -> None:
        resource = operation.path.split("/")[2]

        @settings(
            max_examples=EXAMPLES,
            derandomize=True,
            database=None,
            deadline=None,
            phases=[Phase.explicit, Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(case=operation.as_strategy())
        def ask(case: Any) -> None:
            if real and "id" in (case.path_parameters or {}):
                case.path_parameters["id"] = known[resource][0]
                case.query = {}
            if real and case.method == "POST":
                case.body = {
                    "reason": "it is asked",
                    "q": "id:" + "0" * 32,
                }
            response = case.call(headers=headers)
            seen.add((operation.label, response.status_code))
            case.validate_response(response, checks=asked)

        ask()

    for found in schema.get_all_operations():
        block = transaction.atomic()
        block._from_testcase = True  # type: ignore[attr-defined]
        with block:  # each finds the rows as they were
            probe(found.ok(), real=False)
            probe(found.ok(), real=True)
            transaction.set_rollback(True)

    assert {status for _, status in seen} >= {200, 400, 404, 409}
    succeeded = {label for label, status in seen if status == 200}
    # Nobody wants the dead letter still, nobody guesses what was seen of a message or which reply
    # an open request is declared to have, and no message is published.
    assert {label for label, _ in seen} - succeeded == {
        "POST /api/messages/{id}/replay",
        "POST /api/open-requests/{id}/answer",
        "POST /api/dead-letters/{id}/retry",
        "POST /api/dead-letters/{id}/edit",
        "POST /api/receipts/{id}/edit",
    }
