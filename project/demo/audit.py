"""The second part of the demo: ask, count acknowledgements, lose messages, and reconcile."""

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from uuid import UUID

from django.conf import settings

from outbox.message.ids import time_of
from outbox.models import Acknowledgement, Message
from project.demo import asking, books, losses
from project.demo.display import Display
from project.demo.findings import Books, Findings, Loss
from project.demo.reconcile import PLACED
from project.demo.stage import Stage
from project.demo.truth import Truth
from project.demo.waiting import wait_until
from project.shop.models import Quotation

_PATIENCE = 60.0
_SLICE = 500
_GROUPS = ("billing", "shipping")
_REASON = "the shop was restored to an earlier time"


@dataclass(slots=True)
class Audit:
    """What is asked, acknowledged and reconciled after a run that began then; its services run."""

    stage: Stage
    display: Display
    truth: Truth
    began: datetime
    findings: Findings = field(default_factory=Findings)

    def perform(self) -> Findings:
        """Do all of it; the services run, and have handled what there was."""
        self._ask()
        wait_until(self._acknowledged, _PATIENCE)
        self.display.say("Each service reconciles with those that it sends to.")
        self.findings.before = self._reconcile()
        self._lose_and_mend()
        return self.findings

    def _ask(self) -> None:
        found = self.findings
        self.display.say("The shop asks billing for quotes: it polls, is called back, and awaits.")
        asked = asking.ask_billing()
        found.asked_total = sum(map(len, asked.values()))
        asking.awaited(asked[Quotation.Way.AWAIT])
        asking.poll(asked[Quotation.Way.POLL])
        asking.called_back(asked[Quotation.Way.CALLBACK])
        found.asked = {way.value: asking.ends(those) for way, those in asked.items()}
        found.orders = len(self.truth.placed)

    def _lose_and_mend(self) -> None:
        """Lose messages on purpose, and let the services find and mend that."""
        found, stage = self.findings, self.stage
        services = stage.services
        # Rows that are taken away may have been compared before that.
        since = datetime.now(UTC)
        if services.are_apart:
            orders = self._lose()
        else:
            self.display.say(
                "What billing has had of some orders is deleted, and of others the log."
            )
            orders = []
            found.planted = losses.forget(stage)
        _let_buckets_close()
        found.found = books.reconcile(services, since=since)
        self.display.say(f"Found: {_summary(found.found)}. Mending what can be mended.")
        unknown = frozenset(loss for loss in found.all_found if loss.kind == "unknown")
        books.accept(services, unknown, _REASON)
        books.reconcile(services, since=since, repair=True)
        found.to_mend = len(orders)
        found.mended = losses.await_end(stage, orders) if orders else 0
        found.after = books.reconcile(services, since=since)

    def _lose(self) -> list[UUID]:
        """Lose something in three ways; return the orders that are to come to their end yet."""
        found, stage = self.findings, self.stage
        found.planted["restored"] = losses.restore_shop(stage)
        self.display.say(
            f"The shop's database is restored to an earlier time: {losses.RESTORED} orders that "
            "the others have handled are gone there."
        )
        robbed, found.planted["stolen"] = losses.steal(stage)
        self.display.say(f"A stranger takes {losses.STOLEN} messages out of billing's queue.")
        emptied, found.planted["deleted"] = losses.delete_queue(stage)
        self.display.say(
            f"Shipping's queue is deleted with {len(found.planted['deleted'])} messages in it."
        )
        return [*robbed, *emptied]

    def _reconcile(self) -> Books:
        """Reconcile; what an earlier run has left, as it was ended half-way, is accepted first."""
        services = self.stage.services
        found = books.reconcile(services)
        left = [loss for book in found for loss in book.open if self._is_older(loss)]
        if left:
            books.accept(services, frozenset(left), "left by an earlier run of the demo")
            found = books.reconcile(services)
        return found

    def _is_older(self, loss: Loss) -> bool:
        emitted = time_of(loss.message_id)
        return emitted is not None and emitted < self.began

    def _acknowledged(self) -> bool:
        """Count what the groups have told of the orders; tell whether that is all."""
        found: defaultdict[str, Counter[str]] = defaultdict(Counter)
        for start in range(0, len(self.truth.placed), _SLICE):
            keys = [str(order) for order in self.truth.placed[start : start + _SLICE]]
            ids = Message.objects.filter(type=PLACED, key__in=keys).values("message_id")
            rows = Acknowledgement.objects.filter(message_id__in=ids)
            for group, state in rows.values_list("group", "state"):
                found[group][state] += 1
        self.findings.acknowledged = {group: dict(found[group]) for group in _GROUPS}
        return all(found[group]["handled"] == self.findings.orders for group in _GROUPS)


def _let_buckets_close() -> None:
    """Wait until what was emitted before this is old enough to be compared."""
    age = max(peer["BUCKET"] + peer["GRACE"] for peer in settings.RECONCILE.values())
    over = datetime.now(UTC) + age + timedelta(seconds=1)
    wait_until(lambda: datetime.now(UTC) >= over, _PATIENCE)


def _summary(found: Books) -> str:
    counts: Counter[str] = Counter()
    for book in found:
        counts.update(book.breaks)
    named = [f"{count} {kind}" for kind, count in counts.items() if count]
    return ", ".join(named) or "nothing"
