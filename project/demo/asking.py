"""Ask billing for quotes, in the three ways in which an answer can be had."""

import asyncio
import uuid
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping
from datetime import timedelta
from decimal import Decimal

from asgiref.sync import sync_to_async
from django.db import connections, transaction

import outbox
from project.billing.events import Quote
from project.demo.waiting import wait_until
from project.shop.models import Quotation

_PATIENCE = 60.0
_WITHIN = timedelta(seconds=_PATIENCE)
_GIVEN = (Decimal("19.90"),) * 8
_DECLINED = (Decimal(500),)
_UNANSWERED = (Decimal(20_000),)
"""What billing leaves to a person, who is not there: it expires."""
_NOBODY_WITHIN = timedelta(seconds=1)


def ask_billing() -> Mapping[Quotation.Way, list[Quotation]]:
    """Ask for some quotes in each of the ways; all are sent when this is over."""
    asked: defaultdict[Quotation.Way, list[Quotation]] = defaultdict(list)
    run = uuid.uuid4().hex[:8]
    for way in Quotation.Way:
        for number, total in enumerate((*_GIVEN, *_DECLINED, *_UNANSWERED)):
            quote = Quote(customer=f"{run}-{way}-{number}", total=total)
            within = _NOBODY_WITHIN if total in _UNANSWERED else _WITHIN
            with transaction.atomic():
                asked[way].append(Quotation.ask(quote, way, within=within))
    return asked


def poll(quotations: Collection[Quotation]) -> None:
    """Look now and then, as a page that is polled does, until all have ended."""
    pending = list(quotations)

    def done() -> bool:
        for quotation in list(pending):
            if quotation.request.state() != "pending":
                _note(quotation, *_ended(quotation))
                pending.remove(quotation)
        return not pending

    wait_until(done, _PATIENCE)


def called_back(quotations: Collection[Quotation]) -> bool:
    """Wait until the shop's handler `shop.quoted` has gone on with all of them."""
    ids = [quotation.pk for quotation in quotations]
    pending = Quotation.objects.filter(pk__in=ids, state="pending")
    return wait_until(lambda: not pending.exists(), _PATIENCE)


def awaited(quotations: Collection[Quotation]) -> None:
    """Await all of them at once, in one thread."""

    async def one(quotation: Quotation) -> None:
        try:
            answer = await quotation.request.aresult(_PATIENCE)
        except outbox.RequestExpired:
            await sync_to_async(_note)(quotation, "expired", None)
        except outbox.StillPending:
            pass
        else:
            await sync_to_async(_note)(quotation, "answered", answer)

    async def every() -> None:
        await asyncio.gather(*map(one, quotations))
        await sync_to_async(connections.close_all)()

    asyncio.run(every())


def ends(quotations: Collection[Quotation]) -> Mapping[str, int]:
    """Return how many of some quotations have ended in which way."""
    return Counter(_states(quotations))


def _states(quotations: Collection[Quotation]) -> Iterator[str]:
    ids = [quotation.pk for quotation in quotations]
    rows = Quotation.objects.filter(pk__in=ids).values_list("state", "amount")
    for state, amount in rows:
        if state == "answered" and amount is None:
            yield "declined"
        elif state != "pending":
            yield str(state)


def _ended(quotation: Quotation) -> tuple[str, object]:
    try:
        return "answered", quotation.request.result()
    except outbox.RequestExpired:
        return "expired", None


def _note(quotation: Quotation, state: str, answer: object) -> None:
    quotation.end(state, answer)
