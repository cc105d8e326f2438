"""The admin of the demo: a web server of its own, and somebody to log in."""

import socket
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Self

from django.conf import settings
from django.contrib.auth import get_user_model

from project.demo.processes import ManageProcess, ProcessError
from project.demo.waiting import wait_until

HOST = "127.0.0.1"
LOGIN = "demo"
_PATIENCE = 30.0


class Site:
    """A running ``manage.py runserver``. Use as a context manager: it has ended after it.

    The port must be free. `name` is whose admin it is.
    """

    def __init__(
        self, port: int, environment: Mapping[str, str] | None = None, name: str = ""
    ) -> None:
        self._port = port
        self._name = name
        self._logs = tempfile.TemporaryDirectory(prefix="demo-")
        log = Path(self._logs.name) / "site.log"
        address = f"{HOST}:{self._port}"
        self._process = ManageProcess("runserver", "--noreload", address, log=log, env=environment)

    def __enter__(self) -> Self:
        if not wait_until(self._answers, _PATIENCE):
            raise ProcessError(f"The web server is not ready after {_PATIENCE:g} seconds.")
        return self

    def __exit__(self, *_: object) -> None:
        self._process.request_stop()
        self._process.finish()
        self._logs.cleanup()

    @property
    def invitation(self) -> str:
        """Where the admin is, and how to get in."""
        url = f"http://{HOST}:{self._port}/admin/"
        whose = f"Admin of {self._name}" if self._name else "Admin"
        login = f" (login {LOGIN}, password {LOGIN})" if add_login() else ""
        return f"{whose}: {url}{login}"

    def check(self) -> None:
        """Raise ProcessError if the server has ended."""
        self._process.ensure_running()

    def _answers(self) -> bool:
        self.check()
        try:
            socket.create_connection((HOST, self._port), timeout=1).close()
        except OSError:
            return False
        return True


def add_login() -> bool:
    """Make sure that the demo user exists, a superuser whose password everybody knows.

    Only in debug mode; returns whether one can log in so.
    """
    if not settings.DEBUG:
        return False
    users = get_user_model()._default_manager
    found = users.filter(username=LOGIN).first()
    if found is None:
        found = users.create_superuser(username=LOGIN, password=LOGIN)
    return bool(found.check_password(LOGIN))


def free_port(wanted: int) -> int:
    """Return a port that nobody listens on: the wanted one, or one of the next, or any."""
    for port in (*range(wanted, min(wanted + 20, 65536)), 0):
        try:
            with socket.create_server((HOST, port)) as found:
                return int(found.getsockname()[1])
        except OSError:
            continue
    raise ProcessError("There is no free port.")
