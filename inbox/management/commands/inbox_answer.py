"""manage.py inbox_answer: answer an open request by hand."""

import argparse
import json
import logging
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import router

from inbox.models import OpenRequest
from inbox.replies.answering import answer_open, open_requests
from inbox.replies.by_hand import read_reply
from outbox.database.transactions import own_transaction
from outbox.exceptions import OutboxError
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
                reply = answer_open(row, read_reply(row, options["type"], options["data"]))
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
