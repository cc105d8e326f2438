"""manage.py relay_replay: publish again what a relay has published before."""

import argparse
import json
import time
from datetime import datetime
from typing import IO, Any, cast

from django.core.management.base import BaseCommand, CommandError
from django.db import Error

from outbox.database.freshness import refresh
from outbox.database.instants import utc
from outbox.exceptions import OutboxError
from outbox.message.patterns import is_pattern
from outbox.nouns import counted
from outbox.producer.writing import write_database
from outbox.runtime.arguments import (
    WRONG_USAGE,
    command_error,
    database_alias,
    database_errors_explained,
)
from outbox.runtime.display import Reporter, rate
from outbox.runtime.shutdown import Shutdown
from relay.brokers.base import address_of, close
from relay.conf import DEFAULT_RELAY, create_broker, get_relay_settings
from relay.exceptions import ReplayHalted
from relay.replay import Replay, Selection


class Command(BaseCommand):
    help = (
        "Publish again what the log still holds and a relay has published already, in order per "
        "key, confirmed, without moving its cursor; receivers drop what they have had. Needs a "
        "bound, or --all. SIGTERM finishes the page, tells where to go on and exits 0. Exits 1 "
        "where a message is refused or the broker is away, and tells where it stood; and where "
        "the bounds hold nothing that was published."
    )

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument(
            "--relay", default=DEFAULT_RELAY, metavar="NAME", help="which of RELAYS (%(default)s)"
        )
        parser.add_argument(
            "--database",
            type=database_alias,
            metavar="ALIAS",
            help="whose outbox, by default as the routers say",
        )
        parser.add_argument("--from-position", type=_position, metavar="N", help="first position")
        parser.add_argument("--to-position", type=_position, metavar="N", help="last position")
        parser.add_argument(
            "--since",
            type=_since,
            metavar="ISO",
            help="emitted at this time or later, such as 2026-11-24T09:00 or 2026-11-24; in "
            "TIME_ZONE, unless it says another zone",
        )
        parser.add_argument(
            "--until",
            type=_until,
            metavar="ISO",
            help="emitted at this time or before",
        )
        parser.add_argument(
            "--type",
            dest="types",
            action="append",
            default=[],
            type=_pattern,
            metavar="PATTERN",
            help="event type or pattern, such as 'shop.order.*'; may be given several times",
        )
        parser.add_argument("--key", help="messages of this key only")
        parser.add_argument("--all", action="store_true", help="all that the log holds")
        parser.add_argument(
            "--page-size", type=_page_size, metavar="N", help="messages published at a time"
        )
        parser.add_argument(
            "--dry-run", action="store_true", help="tell how much it is, publish nothing"
        )
        parser.add_argument(
            "--json", action="store_true", help="print one JSON object, nothing else"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        with database_errors_explained():
            self._work(options)

    def _work(self, options: dict[str, Any]) -> None:
        selection = _selection(options)
        with Shutdown() as shutdown:
            try:
                self._handle(selection, shutdown, options)
            except OutboxError as exc:
                raise command_error(exc) from exc

    def _handle(self, selection: Selection, shutdown: Shutdown, options: dict[str, Any]) -> None:
        using = options["database"] or write_database()
        conf = get_relay_settings(options["relay"])
        broker = create_broker(options["relay"], using=using)
        replay = Replay(
            options["relay"],
            broker,
            selection,
            using=using,
            page_size=options["page_size"] or conf.PAGE_SIZE or None,
            page_bytes=conf.PAGE_BYTES,
        )
        shutdown.install()
        try:
            hint = replay.begin()
            if options["dry_run"]:
                done = self._tell_extent(replay, hint, options)
            else:
                done = self._run(replay, hint, shutdown, options)
            if not done and not options["all"] and not shutdown.requested:
                raise CommandError(replay.why_nothing())
        finally:
            close(broker)

    def _tell_extent(self, replay: Replay, hint: str, options: dict[str, Any]) -> int:
        extent = replay.extent()
        if options["json"]:
            found = {"count": extent.count, "first": extent.first, "last": extent.last}
            self._print({"relay": replay.relay, "dry_run": True, **found, "hint": hint})
            return extent.count
        where = f", positions {extent.first} to {extent.last}" if extent.count else ""
        self.stdout.write(f"{counted(extent.count, 'message')} would be published again{where}.")
        if hint:
            self.stdout.write(hint)
        return extent.count

    def _run(self, replay: Replay, hint: str, shutdown: Shutdown, options: dict[str, Any]) -> int:
        started = time.monotonic()
        error = ""

        def figures() -> dict[str, Any]:
            return {
                "relay": replay.relay,
                "broker": address_of(replay.broker),
                "replayed": replay.published,
                "per_second": rate(replay.published, started),
                "next_position": replay.next_position,
            }

        complete = False
        try:
            if options["json"]:
                complete = _publish(replay, shutdown)
            else:
                with Reporter(cast(IO[str], self.stdout._out), ("relay",), figures):
                    complete = _publish(replay, shutdown)
        except ReplayHalted as exc:
            error = str(exc)
        except Error as exc:
            error = f"The database failed: {str(exc).strip()}"
        if options["json"]:
            self._print({**figures(), "complete": complete, "error": error, "hint": hint})
        elif hint:
            self.stdout.write(hint)
        again = counted(replay.published, "message was", "messages were")
        go_on = f"{again} published again. Go on with the same bounds "
        go_on += f"and --from-position {replay.next_position}."
        if error:
            raise CommandError(f"{error}\n{go_on}")
        if not complete and not options["json"]:
            self.stdout.write(f"Stopped as asked. {go_on}")
        return replay.published

    def _print(self, found: dict[str, Any]) -> None:
        self.stdout.write(json.dumps(found))


def _publish(replay: Replay, shutdown: Shutdown) -> bool:
    """Publish page after page; True if nothing is left, False if a stop was requested."""
    while not shutdown.requested:
        refresh(replay.using)
        if not replay.page():
            return True
    return False


def _selection(options: dict[str, Any]) -> Selection:
    """Return what is asked for; raise CommandError if it is nothing or nonsense."""
    bounds = ("from_position", "to_position", "since", "until", "types", "key")
    given = {name: options[name] for name in bounds if options[name] not in (None, [])}
    if not given and not options["all"]:
        raise CommandError(
            "Say what to publish again: --from-position, --to-position, --since, --until, --type "
            "or --key; or --all for everything that the log holds.",
            returncode=WRONG_USAGE,
        )
    for low, high in (("from_position", "to_position"), ("since", "until")):
        if low in given and high in given and given[low] > given[high]:
            names = (f"--{name.replace('_', '-')}" for name in (low, high))
            raise CommandError(
                "Nothing lies between {} and {}.".format(*names), returncode=WRONG_USAGE
            )
    return Selection(**given)


def _position(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("positions start at 1")
    return number


def _page_size(text: str) -> int:
    number = int(text)
    if not 1 <= number <= 100_000:
        raise argparse.ArgumentTypeError("must be from 1 to 100000")
    return number


def _since(text: str) -> datetime:
    return min(_times(text))


def _until(text: str) -> datetime:
    return max(_times(text))


def _times(text: str) -> list[datetime]:
    """Return the points in time that a text can mean: two, in the nights when clocks are changed.

    An hour that comes twice has two, and one that is left out lies before or after the gap.
    """
    try:
        found = datetime.fromisoformat(text)
        return [utc(found.replace(fold=fold)) for fold in (0, 1)]
    except (ValueError, OverflowError):
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a time as ISO 8601 has it: 2026-11-24T09:00+00:00"
        ) from None


def _pattern(text: str) -> str:
    if not is_pattern(text):
        raise argparse.ArgumentTypeError(f"{text!r} is no event type and no pattern of them")
    return text
