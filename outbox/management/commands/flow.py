"""manage.py flow: show a conversation, or what flows where."""

import argparse
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from outbox.exceptions import OutboxError
from outbox.flow import chart, sequence, tree
from outbox.flow.conf import flow_settings
from outbox.flow.conversation import Conversation
from outbox.flow.halves import joined
from outbox.flow.labels import printable, when
from outbox.flow.loading import LIMIT, conversation_of, correlations_of, load_topology, read
from outbox.flow.peers import ask
from outbox.producer.writing import write_database
from outbox.runtime.arguments import (
    amount,
    command_error,
    database_alias,
    database_errors_explained,
)

NEWEST = 20
"""Conversations of a key that are listed."""
LOOKED_AT = 1000
"""Messages of a key that are looked at for that, the newest."""


class Command(BaseCommand):
    help = (
        "Show a conversation: which message caused which, and what became of each. Or the "
        "topology: who handles which events, and what they cause. Changes nothing."
    )

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
        show = commands.add_parser(
            "show",
            help="a conversation as a tree, or as a Mermaid diagram",
            description="Show a conversation as a tree of causes. It is named by its correlation "
            "id, by the id of one of its messages, or by the key of one.",
        )
        named = show.add_mutually_exclusive_group(required=True)
        named.add_argument("id", nargs="?", metavar="ID", help="a correlation id or a message id")
        named.add_argument("--key", help="the key of a message, such as the number of an order")
        show.add_argument(
            "--no-peers", action="store_true", help='do not ask the services of FLOW["PEERS"]'
        )
        show.add_argument("--unfold", action="store_true", help="show equal branches one by one")
        topology = commands.add_parser(
            "topology",
            help="who handles which events, and what they cause",
            description="Show which event types there are, who handles them and what they cause: "
            "as the code declares it, with what the newest rows show, and where the two differ.",
        )
        topology.add_argument(
            "--drift", action="store_true", help="exit 1 if something was seen and is not declared"
        )
        for parser_, diagram in ((show, "sequence diagram"), (topology, "flowchart")):
            parser_.add_argument(
                "--mermaid", action="store_true", help=f"print a Mermaid {diagram}"
            )
            parser_.add_argument(
                "--limit",
                type=amount,
                default=LIMIT,
                metavar="N",
                help="messages to read at most (%(default)s)",
            )
            parser_.add_argument(
                "--database",
                type=database_alias,
                metavar="ALIAS",
                help="whose outbox, by default as the routers say",
            )

    def handle(self, *args: Any, **options: Any) -> None:
        using = options["database"] or write_database()
        with database_errors_explained("look", using):
            try:
                if options["command"] == "topology":
                    self._topology(using, options)
                else:
                    self._show(using, options)
            except OutboxError as exc:
                raise command_error(exc) from exc

    def _show(self, using: str, options: dict[str, Any]) -> None:
        wanted = options["id"]
        if wanted is None:
            wanted = self._of_key(options["key"], using)
            if wanted is None:
                return
        name, other = conversation_of(wanted, using)
        if other is not None:
            self.stderr.write(printable(f"The message {wanted} belongs to another one: {other}"))
        conversation = self._joined(name, using, options)
        if options["mermaid"]:
            lines = sequence.render(conversation)
        else:
            lines = tree.render(conversation, unfold=options["unfold"])
        for line in lines:
            self.stdout.write(line)

    def _joined(self, name: str, using: str, options: dict[str, Any]) -> Conversation:
        """Return the conversation with what peers know of it; say which of them did not tell."""
        answers = ask({} if options["no_peers"] else flow_settings().peers, name)
        own = read(name, using, limit=options["limit"])
        halves = []
        for told in answers():
            half = told.half
            if half is None:
                self.stderr.write(printable(f"{told.peer} did not tell: {told.why}"))
                continue
            halves.append(half)
            if half.cut_at is not None:
                self.stderr.write(printable(f"{told.peer} knows of more than it has told"))
            if half and half.correlation_id != name:
                there = f"Part of another conversation at {told.peer}: {half.correlation_id}"
                self.stderr.write(printable(there))
        return joined(own, halves)

    def _topology(self, using: str, options: dict[str, Any]) -> None:
        found = load_topology(using, limit=options["limit"])
        render = chart.render_mermaid if options["mermaid"] else chart.render
        for line in render(found):
            self.stdout.write(line)
        if options["drift"] and found.not_declared:
            names = ", ".join(found.not_declared)
            raise CommandError(printable(f"Seen and not declared: {names}"))

    def _of_key(self, key: str, using: str) -> str | None:
        """Return the correlation id of a key's only conversation; list them if there are more."""
        found = correlations_of(key, using, limit=LOOKED_AT)
        if not found:
            raise CommandError(f"No message in the log has the key {key!r}.")
        if len(found) == 1:
            return found[0].correlation_id
        self.stdout.write(f"Key {key} is part of several conversations, the newest first:")
        for message in found[:NEWEST]:
            line = f"{message.correlation_id}  {message.type}  {when(message.time)}"
            self.stdout.write(printable(line))
        if len(found) > NEWEST:
            self.stdout.write(f"and {len(found) - NEWEST} more")
        return None
