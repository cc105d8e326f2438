"""What all worlds of a run stand on: a PostgreSQL cluster and a RabbitMQ node of their own."""

import subprocess
import sys
from typing import Self

from tests.kit.processes import ROOT
from tests.kit.services import broker
from tests.kit.services.rabbitmq import RabbitNode
from tests.proofs.faults.acknowledgements import WATCH
from tests.proofs.faults.cluster import HARNESS, Cluster
from tests.proofs.faults.processes import environment
from tests.proofs.faults.service.vocabulary import KEYS, RARE_KEYS

TEMPLATE = "faults_template"


class Ground:
    """Servers that a fault may stop, with a migrated database to copy.

    A node that is given belongs to somebody else, who closes it. Use as a context manager.
    """

    def __init__(self, node: RabbitNode | None = None) -> None:
        self._own_node = None if node else broker.start_private_node()
        self.node: RabbitNode = node or self._own_node  # type: ignore[assignment]
        self.cluster = Cluster()
        self._worlds = 0
        try:
            self._make_template()
        except BaseException:
            self.close()
            raise

    def make_database(self) -> str:
        """Create a database with all tables and aggregates, and return its name."""
        self._worlds += 1
        name = f"world_{self._worlds}"
        self.cluster.query("postgres", f"CREATE DATABASE {name} TEMPLATE {TEMPLATE}")
        return name

    def drop_database(self, name: str) -> None:
        self.cluster.query("postgres", f"DROP DATABASE {name} WITH (FORCE)")

    def versions(self) -> str:
        """Say which servers these are, for people."""
        [(postgresql,)] = self.cluster.query("postgres", "SHOW server_version")
        return f"PostgreSQL {postgresql}, RabbitMQ {self.node.ctl('version').strip()}"

    def close(self) -> None:
        self.cluster.close()
        if self._own_node is not None:
            self._own_node.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _make_template(self) -> None:
        self.cluster.query("postgres", f"CREATE DATABASE {TEMPLATE}")
        made = subprocess.run(
            [sys.executable, "manage.py", "migrate", "--run-syncdb", "--verbosity=0"],
            cwd=ROOT,
            env=environment(DATABASE_URL=self.cluster.url(TEMPLATE, HARNESS)),
            check=False,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        if made.returncode:
            raise RuntimeError(f"The database of the service cannot be migrated:\n{made.stdout}")
        self.cluster.query(TEMPLATE, WATCH)
        self.cluster.query(
            TEMPLATE,
            "INSERT INTO faults_aggregate (key, version) SELECT unnest(%s::text[]), 0",
            [[*KEYS, *RARE_KEYS]],
        )
