"""The processes of the demo: relays, and one to the carrier; with AMQP consumers and a worker."""

import os
import socket
import tempfile
from collections.abc import Callable
from pathlib import Path

from django.conf import settings

from inbox.conf import broker_url
from inbox.sources.amqp.topology import queue_name
from outbox.failpoints import VARIABLE as FAILPOINT
from project.demo.carrier import Carrier
from project.demo.processes import ManageProcess, ProcessError, WorkerProcess
from project.demo.queues import look
from project.demo.services import TOGETHER, Services
from project.demo.waiting import wait_until
from relay.models import Checkpoint

_PATIENCE = 30.0


class Stage:
    """Starts, kills and stops the processes. Use as a context manager: all have ended after it.

    `relay` is the shop's, or that of all services where these are in one database; `others` are
    the relays of the rest.
    """

    def __init__(self, carrier: Carrier | None = None, services: Services = TOGETHER) -> None:
        self.carrier = carrier
        self.services = services
        self.url = broker_url()
        # The local broker hands messages to the handlers within the relay: no consumers then.
        self.groups = sorted(settings.SERVICES) if self.url else []
        self.relay: ManageProcess | None = None
        self.others: dict[str, ManageProcess] = {}
        self.consumers: dict[str, ManageProcess] = {}
        self.worker: ManageProcess | None = None
        self.to_carrier: ManageProcess | None = None
        self._all: list[ManageProcess] = []
        self._newest_checkpoint = 0
        self._logs = tempfile.TemporaryDirectory(prefix="demo-")

    def __enter__(self) -> "Stage":
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        self._logs.cleanup()

    @property
    def audience(self) -> str:
        """Who is published to, for people."""
        if not self.groups:
            return "the handlers in its own process"
        return "the consumers of three services, each with a database of its own"

    def start_consumers(self) -> None:
        """Start a consumer for each group and wait until all of them read from their queues.

        And the relays of the services that follow the shop, which starts last: what its relay
        published to a queue that nobody has declared would be refused.
        """
        for group in self.groups:
            wait_until(lambda group=group: not self._consumed(group), 5.0)  # type: ignore[misc]
            if self._consumed(group):
                raise ProcessError(
                    f"Another process consumes the queue {queue_name(group)!r} on this broker and "
                    "would take a part of the messages. Stop it, or set BROKER_URL to another "
                    "virtual host."
                )
        for group in self.groups:
            self.start_consumer(group)
        for group in self.groups:
            self.await_consumer(group)
        for service in self.services.senders[1:]:
            self.others[service] = self.start("relay", service=service)

    def start_consumer(self, group: str) -> None:
        self.consumers[group] = self.start("consume", "--group", group, service=group)

    def await_consumer(self, group: str) -> None:
        """Wait until a consumer reads from the queue of its group, and so has declared it."""
        self._await(lambda: self._consumed(group), f"consumer of {group!r}")

    def stop_consumer(self, group: str) -> None:
        """Stop the consumer of a group in an orderly way: what waits for it stays in its queue."""
        process = self.consumers.pop(group)
        process.request_stop()
        process.finish()

    def stop_shop(self) -> None:
        """Stop the shop's relay and consumer; the others go on."""
        assert self.relay is not None
        self.relay.request_stop()
        self.stop_consumer("shop")
        self.relay.finish()
        self.relay = None

    def start_shop(self) -> None:
        """Start what stop_shop() has stopped. Its queue is there: its relay need not wait."""
        self.start_consumer("shop")
        self.start_relay()

    def start_worker(self) -> None:
        """Start a Celery worker, if there is a broker. It may be late: tasks wait in its queue."""
        if self.url:
            name = f"demo-{os.getpid()}@%h"  # two of one name would be in each other's way
            options = ("-n", name, "--loglevel", "WARNING", "--concurrency", "1")
            self.worker = self._start(
                WorkerProcess, "-A", "project", "worker", *options, service="billing"
            )

    def start_relay_to_carrier(self) -> None:
        """Start the relay that tells the carrier, if there is one. It is slower than the other."""
        if self.carrier is not None:
            self.to_carrier = self.start("relay", "--relay", "carrier", service="shipping")

    def start_relay(self, *, failpoint: str = "") -> None:
        """Start the relay, perhaps one that kills itself at a point; see outbox.failpoints."""
        newest = Checkpoint.objects.order_by("-id").values_list("id", flat=True).first()
        self._newest_checkpoint = newest or 0
        self.relay = self.start("relay", env={FAILPOINT: failpoint})

    def start(
        self, *arguments: str, service: str = "shop", env: dict[str, str] | None = None
    ) -> ManageProcess:
        """Start a command of a service that ends with the stage."""
        return self._start(ManageProcess, *arguments, service=service, env=env)

    def environment(self, service: str) -> dict[str, str]:
        """Return what a process of a service is given, so that it knows who it is, and whom."""
        known = self.carrier.environment if self.carrier else {}
        return {**known, **self.services.environment(service)}

    def _start(
        self,
        kind: type[ManageProcess],
        *arguments: str,
        service: str = "shop",
        env: dict[str, str] | None = None,
    ) -> ManageProcess:
        log = Path(self._logs.name) / f"{len(self._all)}.log"
        process = kind(*arguments, log=log, env={**self.environment(service), **(env or {})})
        self._all.append(process)
        return process

    def check(self) -> None:
        """Raise ProcessError if a process has ended that should be running."""
        several = (*self.consumers.values(), *self.others.values())
        for process in (self.relay, self.worker, self.to_carrier, *several):
            if process is not None:
                process.ensure_running()

    def has_published(self) -> bool:
        """Tell whether the present relay has published anything since it was started."""
        assert self.relay is not None
        # As relay.transfer.process_name() calls it.
        name = f"{socket.gethostname()[:200]}:{self.relay.pid}"
        new = Checkpoint.objects.filter(id__gt=self._newest_checkpoint)
        return new.filter(published_by=name).exists()

    def queues_empty(self) -> bool:
        """Tell whether no message waits in a queue; repeated ones are still to be handled, too."""
        queues = (look(self.url, group) for group in self.groups)
        return not any(queue.messages for queue in queues if queue is not None)

    def stop(self) -> None:
        """Stop everything that runs, in an orderly way."""
        for process in self._all:
            process.request_stop()
        for process in self._all:
            process.finish()
        self.relay = self.worker = self.to_carrier = None
        self.consumers.clear()
        self.others.clear()

    def duplicates_suppressed(self) -> int:
        """Return how many deliveries the consumers skipped because they had handled them before.

        By their own figures, of which a killed one can only have logged a part: it is a lower
        bound. With the local broker there are none: what a killed relay had handled was rolled
        back with the page, so nothing is ever delivered twice.
        """
        figures = (process.last_figures() for process in self._all)
        return sum(int(found.get("duplicates", 0)) for found in figures)

    def _consumed(self, group: str) -> bool:
        queue = look(self.url, group)
        return queue is not None and queue.consumers > 0

    def _await(self, condition: Callable[[], bool], what: str) -> None:
        def ready() -> bool:
            self.check()
            return condition()

        if not wait_until(ready, _PATIENCE):
            raise ProcessError(f"The {what} is not ready after {_PATIENCE:g} seconds.")
