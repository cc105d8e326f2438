"""manage.py demo: see the promises kept while the relay is killed, and what is lost found."""

import argparse
import json
import random
import signal
from contextlib import ExitStack, suppress
from typing import IO, Any, cast

from amqp.exceptions import AMQPError
from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from django.db import Error as DatabaseError

from inbox.conf import broker_url
from project.demo.carrier import Carrier
from project.demo.display import Display, choose, verdict
from project.demo.findings import Findings
from project.demo.processes import ProcessError
from project.demo.reconcile import Report
from project.demo.run import Run
from project.demo.servers import ServerError, check_servers
from project.demo.services import TOGETHER, apart
from project.demo.site import HOST, Site, free_port
from project.demo.stage import Stage
from project.demo.trickle import trickle


class Command(BaseCommand):
    help = (
        "Place orders from several writers, some of them rolled back, some slow; publish their "
        "events with a relay that is killed and started again; and compare in the end what was "
        "written with what was handled. Then ask, lose messages on purpose, and reconcile. Exits 1 "
        "if anything was lost, done twice or out of order, or not found."
    )

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument(
            "--orders", type=_positive, default=400, metavar="N", help="how many (%(default)s)"
        )
        parser.add_argument(
            "--writers", type=_positive, default=4, metavar="N", help="how many (%(default)s)"
        )
        parser.add_argument(
            "--seed", type=int, metavar="N", help="choose what is random as in an earlier run"
        )
        parser.add_argument(
            "--timeout",
            type=float,
            default=150.0,
            metavar="SECONDS",
            help="what is not handled by then is lost (%(default)g)",
        )
        parser.add_argument(
            "--port", type=_positive, default=8000, metavar="N", help="of the admin (%(default)s)"
        )
        mode = parser.add_mutually_exclusive_group()
        mode.add_argument("--json", action="store_true", help="print one JSON object, nothing else")
        mode.add_argument(
            "--serve",
            action="store_true",
            help="open the admin, and stay afterwards, with an order now and then",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        # Whoever ends us by SIGTERM gets the same orderly end as by Ctrl-C.
        # SIGINT as well: a shell starts background jobs with it ignored.
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.default_int_handler)
        display = Display() if options["json"] else choose(cast(IO[str], self.stdout._out))
        try:
            check_servers()
            report, findings = self._perform(display, options)
        except (ProcessError, ServerError) as exc:
            raise CommandError(str(exc)) from exc
        except (DatabaseError, AMQPError, OSError) as exc:
            raise CommandError(f"A server failed while the demo ran: {str(exc).strip()}") from exc
        except KeyboardInterrupt:
            display.close()
            raise CommandError("Stopped. All processes have ended.", returncode=130) from None
        finally:
            display.close()
        if not report.kept or findings is None or any(findings.problems()):
            raise CommandError(verdict(report, findings))

    def _perform(self, display: Display, options: dict[str, Any]) -> tuple[Report, Findings | None]:
        with ExitStack() as stack:
            port = free_port(options["port"])
            served = settings.SERVICES if broker_url() else settings.SERVICES[:1]
            ports = dict(zip(served, _ports(port, len(served)), strict=True))
            peers = {name: f"http://{HOST}:{ports[name]}" for name in served}
            carrier = Carrier(max(ports.values()) + 1, peers=peers if options["serve"] else {})
            stack.push(carrier)
            services = apart() if broker_url() else TOGETHER
            services.prepare()
            carrier.await_ready()
            stage = stack.enter_context(Stage(carrier, services))
            sites = []
            if options["serve"]:
                sites = [
                    stack.enter_context(Site(ports[name], stage.environment(name), name=name))
                    for name in served
                ]
                invitations = "\n".join([*(site.invitation for site in sites), carrier.invitation])
                display.say(invitations)
            run = Run(
                stage,
                display,
                orders=options["orders"],
                writers=options["writers"],
                seed=random.getrandbits(32) if options["seed"] is None else options["seed"],
                timeout=options["timeout"],
            )
            report, findings = run.execute()
            display.finish(report, findings)
            if options["json"]:
                more = findings.as_dict() if findings is not None else {}
                self.stdout.write(json.dumps(report.as_dict() | more))
            if sites and findings is not None:
                display.say(
                    "\nAn order now and then, until Ctrl-C. The depot in the north is closed: see "
                    "in the admin, under Messaging, what fails, and mend it."
                    f"\n{invitations}\n{carrier.hint}"
                )
                with suppress(KeyboardInterrupt):  # the way to end it
                    trickle(stage, sites, run.truth)
        return report, findings


def _ports(first: int, count: int) -> list[int]:
    found: list[int] = []
    for _ in range(count):
        found.append(free_port(found[-1] + 1 if found else first))
    return found


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("must be 1 or more")
    return number
