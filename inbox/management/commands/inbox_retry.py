"""manage.py inbox_retry: have receipts and dead letters tried again, or give them up."""

import argparse
import json
import logging
from collections.abc import Callable, Iterator
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import router
from django.db.models import Count, QuerySet

from inbox import actions
from inbox.models import DeadLetter, Receipt
from inbox.registry import handlers
from inbox.states import OPEN, Event, State, letters_before, states_before
from outbox.commands import database_alias, database_errors_explained
from outbox.registry import registry as event_types

logger = logging.getLogger("inbox")
STEP = 200
"""Rows of one transaction."""
TOLD = 10
"""Kinds of rows that are told when none was found."""


class Command(BaseCommand):
    help = (
        "Let messages that handlers failed on be tried again at once, with all attempts before "
        "them: those that are dead, unless --state says otherwise. Consumers, or a relay with the "
        "local broker, then handle them. With --dead-letters it is about messages that no handler "
        "could use: they are received again, by this process. With --discard they are given up. "
        "Exits with 1 if something was left: in work at the moment, or still of no use; or if an "
        "id was given of which nothing is dead."
    )

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument(
            "--id", action="append", metavar="ID", help="a message's id; repeatable"
        )
        parser.add_argument("--handler", metavar="NAME", help="only those of a handler")
        parser.add_argument("--type", metavar="TYPE", help="only those of an event type")
        parser.add_argument(
            "--state", choices=[State.DEAD.value, State.RETRYING.value], help="by default dead"
        )
        parser.add_argument("--reason", metavar="REASON", help="such as failed, or unknown_type")
        parser.add_argument("--all", action="store_true", help="without any other condition")
        parser.add_argument("--dead-letters", action="store_true", help="not receipts")
        parser.add_argument("--discard", action="store_true", help="give up instead of retrying")
        parser.add_argument("--dry-run", action="store_true", help="only count")
        parser.add_argument("--json", action="store_true", help="print one JSON object")
        parser.add_argument(
            "--database", type=database_alias, metavar="ALIAS", help="by default as the routers say"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        with database_errors_explained():
            self._work(options)

    def _work(self, options: dict[str, Any]) -> None:
        letters, discards = options["dead_letters"], options["discard"]
        model = DeadLetter if letters else Receipt
        using = options["database"] or router.db_for_write(model)
        found = _selected(model, using, options)
        amiss = _amiss(model, using, found, options["id"] or [])
        selected = changed = left = 0
        for numbers in _slices(found):
            selected += len(numbers)
            if options["dry_run"]:
                continue
            act = {
                (False, False): actions.retry,
                (False, True): actions.discard,
                (True, False): actions.retry_letters,
                (True, True): actions.discard_letters,
            }[letters, discards]
            done = act(numbers, using=using)
            changed += len(done.changed)
            left += len(done.left)
        what = "dead letters" if letters else "receipts"
        verb = "discarded" if discards else "retried"
        if not options["dry_run"]:
            logger.warning("By command: %d %s %s, %d left.", changed, what, verb, left)
        self._report(options, what, verb, {"selected": selected, "changed": changed, "left": left})
        if not selected and not amiss and not options["json"]:
            self.stdout.write(f"Nothing of that is there. {_what_there_is(model, using)}")
        if left:
            amiss.append(
                f"{left} {what} left as they were: in work at the moment, or as unusable as before."
            )
        if amiss:
            raise CommandError("\n".join(amiss))

    def _report(
        self, options: dict[str, Any], what: str, verb: str, figures: dict[str, int]
    ) -> None:
        if options["json"]:
            about = {"what": what, "action": verb, "dry_run": options["dry_run"]}
            self.stdout.write(json.dumps(about | figures))
        elif options["dry_run"]:
            self.stdout.write(f"{figures['selected']} {what} would be {verb}.")
        else:
            self.stdout.write(f"{figures['changed']} of {figures['selected']} {what} {verb}.")


def _selected(
    model: type[Receipt | DeadLetter], using: str, options: dict[str, Any]
) -> QuerySet[Any]:
    """Return what the options select; raise CommandError if they cannot be meant."""
    conditions = {
        "message_id__in": options["id"],
        "handler": options["handler"],
        "type": options["type"],
        "reason": options["reason"],
    }
    given = {name: value for name, value in conditions.items() if value}
    if not given and not options["state"] and not options["all"]:
        raise CommandError(
            "Which ones? Choose with --id, --handler, --type, --state or --reason, or all with "
            "--all.",
            returncode=2,
        )
    known = [str(choice) for choice in model.Reason.values]
    if options["reason"] and options["reason"] not in known:
        raise CommandError(
            f"No reason {options['reason']!r}. Reasons: {', '.join(known)}.", returncode=2
        )
    if model is DeadLetter:
        if options["state"] not in (None, State.DEAD.value):
            raise CommandError("Dead letters are dead; --state is for receipts.", returncode=2)
        if options["handler"]:
            raise CommandError(
                "Dead letters are what no handler could use, so they have none; --handler is for "
                "receipts. Choose dead letters by --type, --reason or --id.",
                returncode=2,
            )
        states = letters_before(Event.DISCARD)
    else:
        states = (State(options["state"] or State.DEAD),)
        assert set(states) <= set(states_before(Event.RETRY)) & set(states_before(Event.DISCARD))
    _check_known(model, using, options)
    return model._default_manager.using(using).filter(state__in=states, **given)


def _check_known(model: type[Receipt | DeadLetter], using: str, options: dict[str, Any]) -> None:
    """Raise CommandError for a handler or type that nobody knows: a typing mistake."""
    rows = model._default_manager.using(using).filter(state__in=OPEN)
    known: dict[str, Callable[[str], bool]] = {
        "handler": lambda name: handlers.get(name) is not None,
        "type": lambda name: event_types.knows(name) or any(h.pattern == name for h in handlers),
    }
    for option, is_known in known.items():
        name = options[option]
        if name and not is_known(name) and not rows.filter(**{option: name}).exists():
            names = ", ".join(sorted(found.name for found in handlers)) or "none"
            told = f" Handlers: {names}." if option == "handler" else ""
            raise CommandError(
                f"There is no {option} {name!r}.{told} {_what_there_is(model, using)}",
                returncode=2,
            )


def _amiss(
    model: type[Receipt | DeadLetter], using: str, found: QuerySet[Any], ids: list[str]
) -> list[str]:
    """Return a sentence for each of the ids of which nothing is selected."""
    rows = model._default_manager.using(using).filter(message_id__in=ids)
    selected = set(found.filter(message_id__in=ids).values_list("message_id", flat=True))
    states: dict[str, set[str]] = {each: set() for each in ids}
    for message_id, state in rows.values_list("message_id", "state"):
        states[message_id].add(state)
    name = model._meta.verbose_name
    return [
        f"No {name} of message {each} is selected: "
        + (f"it is {', '.join(sorted(states[each]))}." if states[each] else "there is none.")
        for each in states
        if each not in selected
    ]


def _what_there_is(model: type[Receipt | DeadLetter], using: str) -> str:
    """Return in words what could be selected: how much of what, the most frequent first."""
    columns = ("state", "handler", "type") if model is Receipt else ("state", "reason", "type")
    states = (State.DEAD, State.RETRYING)
    rows = model._default_manager.using(using).filter(state__in=states).values_list(*columns)
    counts = rows.annotate(count=Count("pk")).order_by("-count", *columns)[:TOLD]
    told = [f"{count} {state} ({about}: {kind})" for state, about, kind, count in counts]
    return f"There is: {', '.join(told)}." if told else "There is nothing to be retried at all."


def _slices(found: QuerySet[Any]) -> Iterator[list[int]]:
    """Return primary keys in portions, each looked up when it is its turn."""
    last = 0
    while numbers := list(
        found.filter(pk__gt=last).order_by("pk").values_list("pk", flat=True)[:STEP]
    ):
        yield numbers
        last = numbers[-1]
