"""Run programs of other libraries in the environment that is theirs."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from benchmarks.databases import Database, empty_database
from benchmarks.processes import ROOT, environment, finish, report
from benchmarks.servers import Servers

PYTHON = ROOT / ".venv-peers" / "bin" / "python"


class NoPeers(Exception):
    """Their environment has not been made."""

    def __str__(self) -> str:
        return "run `make bench-peers` first"


def run_peer(
    name: str, *arguments: str, database: Database, broker_url: str = ""
) -> dict[str, Any]:
    """Run benchmarks/peers/<name>.py in the peers' environment; return what it says at its end."""
    if not PYTHON.exists():
        raise NoPeers
    command = [str(PYTHON), "-m", f"benchmarks.peers.programs.{name}", *arguments]
    variables = {"DATABASE_URL": database.url("peer"), "BROKER_URL": broker_url}
    env = environment(**variables) | {
        "DJANGO_SETTINGS_MODULE": "benchmarks.peers.programs.settings"
    }
    return report(finish(command, env))


@contextmanager
def peer_database(servers: Servers, name: str) -> Iterator[Database]:
    """Create a database for a peer, with its tables."""
    if not PYTHON.exists():
        raise NoPeers
    with empty_database(servers, name) as database:
        run_peer(name, "migrate", database=database)
        yield database
