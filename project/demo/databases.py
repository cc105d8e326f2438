"""Databases beside ours, on the same server: made, copied, and restored to the copy."""

import shutil
from pathlib import Path
from typing import Any

from django.conf import settings
from django.db import Error, connection, connections

from project import database_url
from project.demo.processes import ProcessError
from project.demo.waiting import wait_until

_LOCAL = Path(settings.BASE_DIR) / ".local"
_COPY = "_before"
_PATIENCE = 30.0


def url_beside(name: str) -> str:
    """Return the URL of the database of this name, which is made if need be.

    On the server of ours another database; a file if there is no server, or we may make none there.
    """
    if found := settings_beside(name):
        return database_url.compose(found)
    _LOCAL.mkdir(exist_ok=True)
    return f"sqlite:///{_LOCAL / f'{name}.sqlite3'}"


def settings_beside(name: str) -> dict[str, Any] | None:
    """Return the settings of the database `<ours>_<name>`, which is made if need be.

    None where there is none beside ours: we may make none, or ours is in memory.
    """
    connection.ensure_connection()
    ours = connection.settings_dict
    if connection.vendor != "postgresql":
        path = Path(str(ours["NAME"]))
        if ":memory:" in str(path) or "mode=memory" in str(path):
            return None
        return ours | {"NAME": str(path.with_name(f"{path.stem}_{name}{path.suffix}"))}
    beside = f"{ours['NAME']}_{name}"
    return ours | {"NAME": beside} if _made(beside) else None


def copy(alias: str, *, beside: str) -> None:
    """Keep a copy of a database that nobody uses now; `beside` is an alias on the same server."""
    name = _let_go(alias)
    if connections[beside].vendor != "postgresql":
        shutil.copyfile(name, name + _COPY)
        return
    old, new = _quoted(beside, name), _quoted(beside, name + _COPY)
    _execute(beside, f"DROP DATABASE IF EXISTS {new} WITH (FORCE)")
    _when_unused(beside, name, f"CREATE DATABASE {new} TEMPLATE {old}")


def restore(alias: str, *, beside: str) -> None:
    """Bring a database that nobody uses now back to its copy."""
    name = _let_go(alias)
    if connections[beside].vendor != "postgresql":
        for rest in ("-wal", "-shm"):
            Path(name + rest).unlink(missing_ok=True)
        Path(name + _COPY).replace(name)
        return
    old, new = _quoted(beside, name), _quoted(beside, name + _COPY)
    _execute(beside, f"DROP DATABASE {old} WITH (FORCE)")
    _when_unused(beside, name + _COPY, f"ALTER DATABASE {new} RENAME TO {old}")


def _let_go(alias: str) -> str:
    connections[alias].close()
    return str(connections[alias].settings_dict["NAME"])


def _when_unused(beside: str, name: str, statement: str) -> None:
    """Execute what needs a database without sessions; those that are left are ended."""

    def done() -> bool:
        try:
            with connections[beside].cursor() as cursor:
                cursor.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s",
                    [name],
                )
            _execute(beside, statement)
        except Error as exc:
            failures.append(exc)
            return False
        return True

    failures: list[Error] = []
    if not wait_until(done, _PATIENCE):
        raise ProcessError(f"The database {name} cannot be copied: {failures[-1]}")


def _made(name: str) -> bool:
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1 FROM pg_database WHERE datname = %s", [name])
        if cursor.fetchone():
            return True
        try:
            cursor.execute(f"CREATE DATABASE {connection.ops.quote_name(name)}")
        except Error:
            return False
    return True


def _execute(alias: str, statement: str) -> None:
    with connections[alias].cursor() as cursor:
        cursor.execute(statement)


def _quoted(alias: str, name: str) -> str:
    return str(connections[alias].ops.quote_name(name))
