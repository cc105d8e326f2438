"""Something to show on every page of the admin, and where all the pages are."""

import uuid
from collections.abc import Iterator
from datetime import timedelta
from typing import Any
from uuid import UUID

from django.contrib.auth.models import User
from django.db import transaction
from django.test import Client
from django.urls import reverse
from django.utils import timezone

import outbox
from inbox import RetryPolicy
from inbox.models import Binding, DeadLetter, OpenRequest, Original, Receipt
from outbox.message.envelope import Envelope
from outbox.models import (
    Acknowledgement,
    Break,
    BucketTotal,
    FailureNote,
    Message,
    Reconciliation,
    Reply,
    Request,
    Scheduled,
    Settlement,
)
from outbox.statements.buckets import time_of
from outbox.states import BreakKind, BreakState
from relay.brokers.base import Status
from relay.log import open_log
from relay.models import Checkpoint, Parked
from relay.transfer import transfer
from tests.inbox.support import Handling, happened, receive
from tests.kit.admin_pages import detail_url, list_url
from tests.kit.support import Counted, RecordingBroker

SETTINGS: dict[str, Any] = {
    "OUTBOX": {"LANES": 1, "SOURCE": "/shop"},
    "RELAYS": {"default": {"BACKEND": "relay.brokers.local.LocalBroker"}},
}
"""What the pages are to be shown with."""
MESSAGING = "/admin/django_outbox/messaging/"
LISTS = (
    Message,
    Scheduled,
    Request,
    Acknowledgement,
    Break,
    Checkpoint,
    Parked,
    Receipt,
    DeadLetter,
    Binding,
    OpenRequest,
)
ALIKE = 8
"""Messages that one has led to, which are folded."""


def fill(handling: Handling) -> None:
    """Make rows of every kind, in the states that draw something of their own."""
    handling(_fail, name="tests.shop", retry=RetryPolicy(attempts=1))
    handling(_fail, name="tests.invoice", pattern="tests.counted", retry=RetryPolicy(attempts=1))
    with transaction.atomic():
        root = outbox.emit(Counted("42", 0))
        refused, _held = outbox.emit_many([Counted("43", number) for number in range(2)])
        for number in range(2):
            outbox.emit(Counted("44", number), delay=3600)
    _ask(root)
    _wait(root)
    _compare(root)
    about = {"correlation_id": root.correlation_id, "causation_id": root.id}
    with outbox.use_context(**about), transaction.atomic():
        children = outbox.emit_many([Counted(f"row-{number}", number) for number in range(ALIKE)])
    broker = RecordingBroker()
    broker.refuse = {refused.id: Status.UNROUTABLE}
    transfer(open_log("default", using="default"), broker, 0, 100)
    # Else its turn may come while somebody looks at it.
    Parked.objects.update(next_attempt_at=timezone.now() + timedelta(hours=1))
    receive(
        *(Message.objects.get(message_id=each.id).as_envelope() for each in (root, children[0]))
    )
    receive(*(happened(number, id=f"m{number}", key=f"k{number}") for number in range(1, 6)))
    receive(*(happened(number, type="tests.unknown") for number in range(2)))
    with transaction.atomic():
        outbox.emit(Counted("45", 0))
    _write_down()


def _ask(message: Envelope) -> None:
    """Make a request that waits, one that was answered twice, and one that is to be answered."""
    asked = timezone.now()
    OpenRequest.objects.create(
        message_id=message.id,
        source="/shop",
        type="pricing.discount-of-a-basket",
        version=1,
        handler="pricing.handlers.discount_of_a_basket",
        correlation_id=message.correlation_id or "",
        address="outbox.replies.shop",
        opened_at=asked,
        expires_at=asked + timedelta(days=2),
        content_type="application/json",
        data=b'{"basket_id": 7, "why": "a rather long question, which may be cut off at the edge"}',
    )
    for number in range(2):
        request = Request.objects.create(
            message_id=message.id if number else uuid.uuid4(),
            type="pricing.quote",
            version=1,
            correlation_id=message.correlation_id or "",
            owner="42",
            wanted=1,
            asked_at=asked,
            deadline=asked + timedelta(minutes=2),
            expiry_id=uuid.uuid4(),
        )
    Settlement.objects.create(request=request, outcome="answered", settled_at=asked, by="/pricing")
    for each in (1, None):
        Reply.objects.create(
            request=request,
            message_id=str(uuid.uuid4()),
            source="/pricing",
            type="pricing.quote.given",
            version=1,
            content_type="application/json",
            data=b'{"amount": 19}',
            received_at=asked,
            number=each,
        )


def _wait(message: Envelope) -> None:
    """Wait for two groups, of which one has told."""
    now = timezone.now()
    for group, state in (("billing", "handled"), ("shipping", "missing")):
        Acknowledgement.objects.create(
            message_id=message.id,
            group=group,
            type=message.type,
            state=state,
            sent_at=now,
            within=300,
            resends=2,
            most=5,
            told_at=now if state == "handled" else None,
            told_by="/billing" if state == "handled" else "",
        )


def _compare(message: Envelope) -> None:
    """Compare with a group: breaks of every kind and state."""
    minute = time_of(UUID(message.id)) // 60_000 * 60_000
    Reconciliation.objects.create(
        group="billing", closed=minute, stated=minute, handles=["#"], answered_at=timezone.now()
    )
    BucketTotal.objects.bulk_create(
        BucketTotal(
            group="billing",
            start=minute - number * 20 * 60_000,
            type=message.type,
            count=1_000 + number,
            digest="ab" * 32,
        )
        for number in range(200)
    )
    for number, kind in enumerate(BreakKind):
        for place, state in enumerate(BreakState):
            Break.objects.create(
                group="billing",
                kind=kind,
                message_id=message.id if (kind, state) == ("missing", "open") else uuid.uuid4(),
                type=message.type,
                start=minute - (10 * number + place) * 60_000,
                state=state,
                there="retrying" if kind == "unsettled" else "",
                reason="refunded by hand" if state == "accepted" else "",
                by="anna" if state in ("repaired", "accepted") else "",
            )


def _broken() -> Break:
    return Break.objects.get(kind="missing", state="open")


def _fail(event: Any, message: Envelope) -> None:
    raise LookupError(f"no price for {event.number}")


def _write_down() -> None:
    """Make what only people and consumers make."""
    receipt = Receipt.objects.filter(handler="tests.shop").earliest("pk")
    Original.objects.create(receipt=receipt, headers="{}", body=b'{"a": 1}', edited_by="root")
    Binding.objects.create(
        group="g", queue="g", exchange="events", topic="tests.happened", declared=timezone.now()
    )
    Binding.objects.create(group="g", queue="g", exchange="events", topic="tests.other")


def actions(client: Client) -> dict[str, str]:
    """Do what leaves tracks; return the addresses of pages that follow."""
    from outbox.extensions.failures import source_of  # noqa: PLC0415 - is registered by then
    from outbox.failures.grouping import find  # noqa: PLC0415

    source = source_of("receipts")
    assert source is not None
    first, second = sorted(find(source, "default").groups, key=lambda each: -len(each.failures))
    group = f"{MESSAGING}failures/receipts/{first.fingerprint}/"
    client.post(f"{group}note/", {"text": "Prices are on their way.", "seen": ""})
    assert FailureNote.objects.exists()
    run = client.post(f"{group}retry/").headers["Location"]
    other = f"{MESSAGING}failures/receipts/{second.fingerprint}/"
    found = {"a group of failures": group, "to discard a group": f"{group}discard/", "a run": run}
    numbers = ",".join(str(each.number) for each in second.failures[:1])
    answer = client.post(f"{other}discard/", {"of": numbers, "confirmed": "yes"})
    found["what was discarded"] = answer.headers["Location"]
    return found


def addresses(client: Client) -> Iterator[tuple[str, str]]:
    """Yield what every page of ours is about, and its address; the superuser root sees them all."""
    client.force_login(User.objects.get(username="root"))
    root = Message.objects.earliest("pk")
    yield "index", "/admin/"
    for name in ("overview", "failures", "flow", "traffic", "reconciliation", "storage"):
        yield name, f"{MESSAGING}{name}/"
    compared, start = f"{MESSAGING}reconciliation/billing/", _broken().start
    yield "hour of a group", f"{compared}?hour={start // 3_600_000 * 3_600_000}"
    yield "bucket of a group", f"{compared}?bucket={start}"
    yield "conversation", f"{MESSAGING}flow/?of={root.correlation_id}"
    yield "unfolded", f"{MESSAGING}flow/?of={root.correlation_id}&unfold={root.message_id}"
    yield "key", f"{MESSAGING}flow/?of=42&as=key"
    yield "unknown", f"{MESSAGING}flow/?of=nobody-knows"
    yield from actions(client).items()
    yield "doings", f"{MESSAGING}doings/"
    for model in LISTS:
        name = str(model._meta.model_name)
        yield f"list of {name}", list_url(model)
        yield f"{name}", detail_url(model._default_manager.latest("pk"))
    receipt = Receipt.objects.filter(state="dead").latest("pk")
    yield "mistake", list_url(Message, "?q=stat:dead")
    yield "message that failed", detail_url(root)
    yield "dead receipt", detail_url(receipt)
    yield "edited receipt", detail_url(Receipt.objects.filter(originals__isnull=False).get())
    for verb in ("discard", "edit", "history"):
        yield f"to {verb} a receipt", f"{detail_url(receipt).removesuffix('change/')}{verb}/"
    scheduled = detail_url(Scheduled.objects.latest("pk")).removesuffix("change/")
    yield "to cancel", f"{scheduled}cancel/"
    broken = detail_url(_broken())
    yield "a break", broken
    for verb in ("repair", "accept"):
        yield f"to {verb} a break", f"{broken.removesuffix('change/')}{verb}/"
    yield "to publish again", reverse("admin:django_relay_again", args=(root.pk, "default"))
    yield "to hand to a group", reverse("admin:django_inbox_hand", args=(root.pk, "g"))
