"""manage.py inbox_retry: have receipts and dead letters tried again, or give them up."""

import argparse
import json
import logging
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any, Protocol

from django.core.management.base import BaseCommand, CommandError
from django.db import router
from django.db.models import Count, QuerySet

from inbox import operator
from inbox.followup import Done, follow
from inbox.handlers.registry import handlers
from inbox.models import DeadLetter, Receipt
from inbox.states import OPEN, Event, State, letters_before, states_before
from outbox.database.freshness import refresh
from outbox.filtering.grammar import parse
from outbox.message.cloudevents import bounded
from outbox.message.event_types import registry as event_types
from outbox.nouns import counted
from outbox.runtime.arguments import (
    WRONG_USAGE,
    add_filter,
    database_alias,
    database_errors_explained,
    selection_of,
)

logger = logging.getLogger("inbox")
STEP = 200
"""Rows of one transaction."""


class Action(Protocol):
    """Does something with the rows of these numbers; returns what came of it."""

    def __call__(self, numbers: Collection[int], *, using: str) -> Done: ...


VERBS = {"discard": "discarded", "restore": "restored"}
"""What is done by these options; else rows are retried."""
ACTIONS: dict[str, tuple[Action, Action]] = {
    "retried": (operator.retry, operator.retry_letters),
    "discarded": (operator.discard, operator.discard_letters),
    "restored": (operator.restore, operator.restore_letters),
}
"""What does it with receipts, and with dead letters."""
TOLD = 10
"""Kinds of rows that are told when none was found, and of errors."""
WAIT = 5.0
"""Seconds in which a consumer that is there tries something of what is due."""


class Command(BaseCommand):
    help = (
        "Let messages that handlers failed on be tried again at once, with all attempts before "
        "them: those that are dead, unless --state says otherwise. Consumers, or a relay with the "
        "local broker, then handle them; --wait says how long to wait for what comes of it. With "
        "--dead-letters it is about messages that no handler could use: they are received again, "
        "by this process. With --discard they are given up, and with --restore what was discarded "
        "is dead again, until it is retried. Exits with 1 if something has failed "
        "again, was not tried in time, or was left: in work at the moment, or still of no use; or "
        "if an id was given of which nothing is dead."
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
        add_filter(parser)
        parser.add_argument("--all", action="store_true", help="without any other condition")
        parser.add_argument("--dead-letters", action="store_true", help="not receipts")
        instead = parser.add_mutually_exclusive_group()
        instead.add_argument("--discard", action="store_true", help="give up instead of retrying")
        instead.add_argument(
            "--restore", action="store_true", help="make dead again what was discarded"
        )
        parser.add_argument(
            "--wait",
            type=_seconds,
            default=WAIT,
            metavar="SECONDS",
            help="go on when consumers have got no further for so long, by default %(default)s; "
            "0 does not wait for what comes of it",
        )
        parser.add_argument("--dry-run", action="store_true", help="only count")
        parser.add_argument("--json", action="store_true", help="print one JSON object")
        parser.add_argument(
            "--database", type=database_alias, metavar="ALIAS", help="by default as the routers say"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        with database_errors_explained():
            self._work(options)

    def _work(self, options: dict[str, Any]) -> None:
        letters = options["dead_letters"]
        verb = next((VERBS[name] for name in VERBS if options.get(name)), "retried")
        options["id"] = [bounded(each) for each in options["id"] or []]
        model = DeadLetter if letters else Receipt
        using = options["database"] or router.db_for_write(model)
        found = _selected(model, using, options)
        amiss = _amiss(model, using, found, options["id"])
        selected, done = 0, Done()
        for numbers in _slices(found):
            selected += len(numbers)
            if options["dry_run"]:
                continue
            refresh(using)
            done.add(ACTIONS[verb][letters](numbers, using=using))
        if done.came.untried and options["wait"]:
            done.came = follow(done.changed, using=using, seconds=options["wait"])
        what = "dead letters" if letters else "receipts"
        changed, left = len(done.changed), len(done.left)
        if not options["dry_run"]:
            came = f" ({done.came})" if changed and verb == "retried" else ""
            logger.warning("By command: %d %s %s%s, %d left.", changed, what, verb, came, left)
        self._report(options, what, verb, selected, done)
        if not selected and not amiss and not options["json"]:
            there = _what_there_is(model, using, _states(model, options))
            self.stdout.write(f"Nothing of that is there. {there}")
        if not options["dry_run"]:
            amiss += _unfinished(done, verb, what, options["wait"], using)
        if amiss:
            raise CommandError("\n".join(amiss))

    def _report(
        self, options: dict[str, Any], what: str, verb: str, selected: int, done: Done
    ) -> None:
        changed, left = len(done.changed), len(done.left)
        if options["json"]:
            about = {"what": what, "action": verb, "dry_run": options["dry_run"]}
            figures: dict[str, Any] = {"selected": selected, "changed": changed, "left": left}
            if not options["dry_run"]:
                figures |= _figures(done)
            self.stdout.write(json.dumps(about | figures))
        elif options["dry_run"]:
            self.stdout.write(f"{counted(selected, what[:-1])} would be {verb}.")
        else:
            came = f": {done.came}" if changed and verb == "retried" else ""
            self.stdout.write(f"{changed} of {selected} {what} {verb}{came}.")


def _figures(done: Done) -> dict[str, Any]:
    """Return what came of it: receipts by state, what is due still, and why the others failed."""
    came = done.came
    errors = [
        {"handler": handler, "error": error, "count": count}
        for (handler, error), count in came.errors.most_common(TOLD)
    ]
    return {
        **{state.value: came.states[state] for state in State},
        "untried": came.untried,
        "behind": came.behind,
        "errors": errors,
        "left_because": dict(Counter(done.why.values())),
    }


def _unfinished(done: Done, verb: str, what: str, seconds: float, using: str) -> list[str]:
    """Return a sentence for each reason for which not all of it is handled."""
    came, told = done.came, []
    if came.failed and verb == "retried":
        errors = [
            f"{count} of {handler}: {error}"
            for (handler, error), count in came.errors.most_common(TOLD)
        ]
        told.append(f"{came.failed} receipts have failed again: {'; '.join(errors)}")
    if came.untried and seconds:
        told.append(
            f"{came.untried} receipts are due and were not tried within {seconds:g} s: is a "
            "consumer of their group running, or a relay with the local broker? It handles them."
            + _gone(done, using)
        )
    if came.behind:
        told.append(
            f"{came.behind} receipts are due and wait behind another message of their key, which "
            "is dead or retrying: see to that first."
        )
    if done.left:
        counts = Counter(done.why.values())
        whys = ", ".join(f"{count} {why.label}" for why, count in counts.items())
        told.append(f"{len(done.left)} {what} left as they were: {whys}.")
    return told


def _gone(done: Done, using: str) -> str:
    """Return a sentence about receipts of handlers that are not registered here; "" if none is."""
    rows = Receipt.objects.using(using).filter(pk__in=done.changed, state=State.RETRYING)
    names = set(rows.values_list("handler", flat=True).distinct())
    if gone := ", ".join(sorted(name for name in names if handlers.get(name) is None)):
        return (
            f" Nobody handles those of {gone}: there is no such handler here any more. Give a "
            "handler that name again, or --discard them with --state retrying."
        )
    return ""


def _seconds(text: str) -> float:
    """Return a number of seconds, for argparse."""
    seconds = float(text)
    if not 0 <= seconds <= 86_400:
        raise argparse.ArgumentTypeError("0 to 86400 seconds")
    return seconds


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
    if not given and not any(options[name] for name in ("state", "filter", "all")):
        raise CommandError(
            "Which ones? Choose with --id, --handler, --type, --state, --reason or --filter, or "
            "all with --all.",
            returncode=WRONG_USAGE,
        )
    known = [str(choice) for choice in model.Reason.values]
    if options["reason"] and options["reason"] not in known:
        raise CommandError(
            f"No reason {options['reason']!r}. Reasons: {', '.join(known)}.", returncode=WRONG_USAGE
        )
    if model is DeadLetter:
        if options["state"] not in (None, State.DEAD.value):
            raise CommandError(
                "Dead letters are dead; --state is for receipts.", returncode=WRONG_USAGE
            )
        if options["handler"]:
            raise CommandError(
                "Dead letters are what no handler could use, so they have none; --handler is for "
                "receipts. Choose dead letters by --type, --reason or --id.",
                returncode=WRONG_USAGE,
            )
    elif options["restore"] and options["state"]:
        raise CommandError(
            "What can be restored is discarded; --state says no more.", returncode=WRONG_USAGE
        )
    selection = selection_of(model, options["filter"], using)
    states = _states(model, options)
    _check_known(model, using, options, states)
    rows = model._default_manager.using(using).filter(state__in=states, **given)
    return selection.of(rows)


def _states(model: type[Receipt | DeadLetter], options: dict[str, Any]) -> tuple[State, ...]:
    """Return the states of rows that are selected."""
    if options["restore"]:
        before = letters_before if model is DeadLetter else states_before
        return tuple(before(Event.RESTORE))
    if model is DeadLetter:
        return tuple(letters_before(Event.DISCARD))
    if options["state"] is None and _names_state(options["filter"]):
        return states_before(Event.DISCARD if options["discard"] else Event.RETRY)
    return (State(options["state"] or State.DEAD),)


def _names_state(text: str | None) -> bool:
    """Tell whether a filter, which can be used, says which states are meant."""
    return any(term.name == "state" for term in parse(text or ""))


def _check_known(
    model: type[Receipt | DeadLetter], using: str, options: dict[str, Any], states: Sequence[State]
) -> None:
    """Raise CommandError for a handler or type that nobody knows: a typing mistake."""
    rows = model._default_manager.using(using).filter(state__in={*OPEN, *states})
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
                f"There is no {option} {name!r}.{told} {_what_there_is(model, using, states)}",
                returncode=WRONG_USAGE,
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


def _what_there_is(
    model: type[Receipt | DeadLetter], using: str, selectable: Sequence[State]
) -> str:
    """Return in words what could be selected: how much of what, the most frequent first."""
    columns = ("state", "handler", "type") if model is Receipt else ("state", "reason", "type")
    states = {State.DEAD, State.RETRYING}
    if State.DISCARDED in selectable:
        states = {State.DISCARDED}
    rows = model._default_manager.using(using).filter(state__in=states).values_list(*columns)
    counts = rows.annotate(count=Count("pk")).order_by("-count", *columns)[:TOLD]
    told = [f"{count} {state} ({about}: {kind})" for state, about, kind, count in counts]
    verb = "restored" if State.DISCARDED in selectable else "retried"
    unselected = State.RETRYING not in selectable and any(
        row[0] == State.RETRYING for row in counts
    )
    if not told:
        return f"There is nothing to be {verb} at all."
    hint = " Those that are retrying are chosen by --state retrying." if unselected else ""
    return f"There is: {', '.join(told)}.{hint}"


def _slices(found: QuerySet[Any]) -> Iterator[list[int]]:
    """Return primary keys in portions, each looked up when it is its turn."""
    last = 0
    while numbers := list(
        found.filter(pk__gt=last).order_by("pk").values_list("pk", flat=True)[:STEP]
    ):
        yield numbers
        last = numbers[-1]
