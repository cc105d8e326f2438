"""manage.py inbox_answer: answer an open request by hand."""

import argparse
import json
import logging
from collections.abc import Collection
from dataclasses import replace
from typing import Any

from django.contrib.auth import get_user_model
from django.core.exceptions import PermissionDenied
from django.core.management.base import BaseCommand, CommandError
from django.db import router

from inbox.models import OpenRequest
from inbox.replies.answering import answer_open, open_requests
from inbox.replies.by_hand import ANSWER, read_reply
from outbox.database.transactions import own_transaction
from outbox.exceptions import OutboxError
from outbox.message.envelope import Envelope
from outbox.operations import carry_out
from outbox.producer.writing import write_database
from outbox.runtime.arguments import database_errors_explained

logger = logging.getLogger("inbox")


class Command(BaseCommand):
    help = (
        "Answer an open request: one for which a handler has returned inbox.LATER. The reply is of "
        "a type that the request is declared to have, and its data are JSON. Exits with 1 if it is "
        "no reply, or if no such request is open."
    )

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("request", metavar="ID", help="the id of the request's message")
        parser.add_argument("--source", metavar="SOURCE", help="whose it is, of several with an id")
        parser.add_argument("--type", required=True, metavar="TYPE", help="the type of the reply")
        parser.add_argument("--data", required=True, metavar="JSON", help="the data of the reply")
        parser.add_argument(
            "--user",
            metavar="NAME",
            help="who answers: it is written down, and takes his permission",
        )
        parser.add_argument("--reason", default="", metavar="TEXT", help="why, with --user")
        parser.add_argument("--json", action="store_true", help="print one JSON object")

    def handle(self, *args: Any, **options: Any) -> None:
        using = router.db_for_write(OpenRequest)
        with (
            database_errors_explained(),
            own_transaction(using, durable=False),
            own_transaction(write_database(), durable=False),
        ):
            try:
                row = open_requests(options["request"], options["source"] or "")[0]
                answer = read_reply(row, options["type"], options["data"])
                reply = _answer(row, answer, options["user"], options["reason"])
            except OutboxError as exc:
                raise CommandError(str(exc)) from exc
        if reply is None:
            raise CommandError(f"Request {options['request']} was answered or cancelled just now.")
        logger.warning("By command: request %s is answered with %s.", row, reply.type)
        if options["json"]:
            about = {"request": row.message_id, "source": row.source}
            self.stdout.write(json.dumps({**about, "reply": reply.id, "type": reply.type}))
        else:
            self.stdout.write(f"Request {row.message_id} is answered: {reply.type} {reply.id}.")


def _answer(row: OpenRequest, answer: object, name: str | None, reason: str) -> Envelope | None:
    """Answer a request; as a user, if one is named, whose doing is written down then."""
    if name is None:
        return answer_open(row, answer)
    users = get_user_model()
    try:
        user = users._default_manager.get_by_natural_key(name)
    except users.DoesNotExist:
        raise CommandError(f"There is no user {name!r}.") from None
    sent: list[Envelope] = []

    def perform(numbers: Collection[int], *, by: str, using: str) -> Collection[int]:
        if (reply := answer_open(row, answer)) is None:
            return ()
        sent.append(reply)
        return numbers

    try:
        carry_out(replace(ANSWER, perform=perform), [row.pk], user=user, reason=reason)
    except PermissionDenied:
        raise CommandError(f"User {name!r} may not: it takes {ANSWER.codename}.") from None
    return sent[0] if sent else None
