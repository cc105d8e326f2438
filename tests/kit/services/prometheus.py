"""Run Prometheus and its promtool: Debian's, with data of its own."""

import json
import os
import shutil
import socket
import subprocess
import tempfile
import time
import urllib.parse
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

import pytest

from tests.kit.services import debian
from tests.kit.services.leash import Leashed

NO_PROMETHEUS = "no Prometheus: "

_PROGRAMS = ("prometheus", "promtool")
_PACKAGE = "prometheus"
_PATIENCE = 30  # seconds for it to start


class Prometheus:
    """A Prometheus with a configuration, without data. Cannot outlive the tests."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        ensure_installed()
        self._directory = Path(tempfile.mkdtemp(prefix="prometheus-"))
        file, log = self._directory / "prometheus.yml", self._directory / "output.log"
        file.write_text(json.dumps(config))  # which is YAML as well
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.url = f"http://127.0.0.1:{free.getsockname()[1]}"
        command = [
            _path("prometheus"),
            f"--config.file={file}",
            f"--storage.tsdb.path={self._directory / 'data'}",
            f"--web.listen-address={self.url.partition('//')[2]}",
        ]
        self._server = Leashed(command, env=dict(os.environ), log=log)
        deadline = time.monotonic() + _PATIENCE
        while not self._is_ready():
            if not self._server.is_running() or time.monotonic() > deadline:
                said = log.read_text()[-4000:]
                self.close()
                raise RuntimeError(f"Prometheus did not start:\n{said}")
            time.sleep(0.05)

    def api(self, path: str, **parameters: str) -> Any:
        """Return what its HTTP API answers, the part called `data`."""
        query = urllib.parse.urlencode(parameters)
        with urllib.request.urlopen(f"{self.url}/api/v1/{path}?{query}", timeout=10) as response:
            return json.load(response)["data"]

    def query(self, expression: str) -> list[tuple[dict[str, str], float]]:
        """Return labels and value of each series of an expression, as it is now."""
        result = self.api("query", query=expression)["result"]
        return [(each["metric"], float(each["value"][1])) for each in result]

    def firing(self) -> dict[str, dict[str, str]]:
        """Return the alerts that fire: the labels of each by its name."""
        alerts = self.api("alerts")["alerts"]
        labels = [each["labels"] for each in alerts if each["state"] == "firing"]
        return {each["alertname"]: each for each in labels}

    def close(self) -> None:
        self._server.kill()
        shutil.rmtree(self._directory, ignore_errors=True)

    def _is_ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/-/ready", timeout=1) as response:
                return bool(response.status == 200)
        except OSError:
            return False


def promtool(*arguments: str) -> str:
    """Run promtool and return what it prints; fail the test if it finds fault."""
    ensure_installed()
    done = subprocess.run(
        [_path("promtool"), *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def ensure_installed() -> None:
    """Install it if it is missing; where that is not possible, skip the test, or fail it in CI."""
    if all(shutil.which(each) for each in _PROGRAMS):
        return
    if not debian.can_install():
        _give_up("it is not installed, and only root on Debian can install it here")
    try:
        debian.install(_PACKAGE)
    except subprocess.SubprocessError as error:
        output = (getattr(error, "output", None) or "").strip()[-2000:]
        _give_up(f"it is not installed and could not be: {error}\n{output}")


def _path(program: str) -> str:
    found = shutil.which(program)
    assert found is not None
    return found


def _give_up(reason: str) -> NoReturn:
    if os.environ.get("CI"):
        pytest.fail(NO_PROMETHEUS + reason, pytrace=False)
    pytest.skip(NO_PROMETHEUS + reason)
