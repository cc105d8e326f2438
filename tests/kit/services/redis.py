"""Run private Redis servers, beside any other on this machine."""

import os
import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from typing import NoReturn

import pytest
import redis

from tests.kit.services import debian
from tests.kit.services.leash import Leashed

_PACKAGE = "redis-server"

_PATIENCE = 20  # seconds for a server to start


class RedisServer:
    """A Redis of our own, which a test may configure as it likes. Keeps nothing on disk."""

    def __init__(self) -> None:
        server = _program()
        self._directory = Path(tempfile.mkdtemp(prefix="redis-"))
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        command = [
            server,
            *("--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self._directory)),
            *("--save", "", "--appendonly", "no", "--enable-debug-command", "yes"),
        ]
        log = self._directory / "redis.log"
        self._server = Leashed(command, env=os.environ, log=log)
        self.admin = redis.Redis(port=self.port)
        deadline = time.monotonic() + _PATIENCE
        while not self._answers():
            if not self._server.is_running() or time.monotonic() > deadline:
                self.close()
                raise RuntimeError("Redis did not start")
            time.sleep(0.02)

    def url(self, user: str = "", password: str = "") -> str:
        credentials = f"{user}:{password}@" if user else ""
        return f"redis://{credentials}127.0.0.1:{self.port}/0"

    def close(self) -> None:
        self.admin.close()
        self._server.kill()
        shutil.rmtree(self._directory, ignore_errors=True)

    def _answers(self) -> bool:
        try:
            return bool(self.admin.ping())
        except redis.ConnectionError:
            return False


def _program() -> str:
    """Return the path of redis-server, installed if need be and if that is possible.

    Where it is not, skip the test, or fail it in CI.
    """
    if shutil.which(_PACKAGE) is None:
        if not debian.can_install():
            _give_up("it is not installed, and only root on Debian can install it here")
        try:
            debian.install(_PACKAGE)
        except subprocess.SubprocessError as exc:
            _give_up(f"it is not installed and could not be: {exc}")
    program = shutil.which(_PACKAGE)
    assert program is not None
    return program


def _give_up(reason: str) -> NoReturn:
    if os.environ.get("CI"):
        pytest.fail(f"no Redis: {reason}", pytrace=False)
    pytest.skip(f"no Redis: {reason}")
