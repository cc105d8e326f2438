"""The three services: with a broker each on a database of its own, without one all on ours."""

import tempfile
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from io import StringIO
from pathlib import Path

from django.conf import settings
from django.core.management import call_command
from django.db import DEFAULT_DB_ALIAS, connection, connections

from project import database_url
from project.demo.databases import settings_beside
from project.demo.processes import ManageProcess, ProcessError
from project.demo.servers import ServerError

_PATIENCE = 120.0


@dataclass(frozen=True, slots=True)
class Services:
    """Where the tables of each service are: an alias of this process, which is the shop."""

    shop: str = DEFAULT_DB_ALIAS
    billing: str = DEFAULT_DB_ALIAS
    shipping: str = DEFAULT_DB_ALIAS

    @property
    def are_apart(self) -> bool:
        """Whether each has a database of its own."""
        return self.shop != self.billing

    @property
    def senders(self) -> tuple[str, ...]:
        """The names of the services, as far as they are services of their own."""
        return settings.SERVICES if self.are_apart else (settings.SERVICES[0],)

    @property
    def aliases(self) -> tuple[str, ...]:
        """Each database once."""
        return tuple(dict.fromkeys((self.shop, self.billing, self.shipping)))

    def of(self, service: str) -> str:
        """Return the alias of a service's database."""
        return str(getattr(self, service))

    def environment(self, service: str) -> Mapping[str, str]:
        """Return what makes a process one of a service, and of no other."""
        if not self.are_apart:
            return {}
        with connections[self.of(service)].temporary_connection():  # an embedded server runs then
            url = database_url.compose(connections[self.of(service)].settings_dict)
        return {"SERVICE": service, "DATABASE_URL": url}

    def prepare(self) -> None:
        """Have the tables of each service there, somebody who can log in, and its books opened."""
        if not self.are_apart:
            call_command("migrate", interactive=False, verbosity=0)
            call_command("reconcile", local=True, stdout=StringIO())
            return
        self.run("service")

    def run(
        self,
        *arguments: str,
        only: str = "",
        allowed: Callable[[int], bool] = lambda code: not code,
    ) -> dict[str, str]:
        """Run a command of each service, side by side; return what each has printed.

        Raises ProcessError for an exit code that is not allowed.
        """
        with tempfile.TemporaryDirectory(prefix="demo-") as logs, ExitStack() as stack:
            started = {}
            for service in [only] if only else self.senders:
                log = Path(logs) / f"{service}.log"
                env = self.environment(service)
                started[service] = ManageProcess(*arguments, log=log, env=env)
                stack.callback(started[service].kill)
            for service, process in started.items():
                code = process.wait(_PATIENCE)
                if code is None or not allowed(code):
                    raise ProcessError(
                        f"'{process.name}' of {service} ended with {code}:\n{process.output}"
                    )
            return {service: process.output for service, process in started.items()}


TOGETHER = Services()


def apart() -> Services:
    """Make a database for each service, and let this process be the shop.

    Before any table is used. Raises ServerError if there can be none.
    """
    connection.ensure_connection()
    own = {service: settings_beside(service) for service in settings.SERVICES}
    connection.close()
    databases = connections.databases
    for service, found in own.items():
        if found is None:
            raise ServerError(
                "With a broker each service has a database of its own, and DATABASE_URL lets us "
                "make none: let its user create databases, or unset BROKER_URL."
            )
        if service == "shop":
            databases[DEFAULT_DB_ALIAS]["NAME"] = found["NAME"]
        else:
            databases[service] = found
    return Services(billing="billing", shipping="shipping")
