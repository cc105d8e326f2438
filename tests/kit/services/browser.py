"""Run a real browser: Debian's Chromium, without a window, driven by Selenium."""

import os
import shutil
import socket
import subprocess
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import NoReturn

import pytest
from selenium import webdriver
from selenium.webdriver.chrome.remote_connection import ChromeRemoteConnection
from selenium.webdriver.remote.webdriver import WebDriver

from tests.kit.services import debian
from tests.kit.services.leash import Leashed

NO_BROWSER = "no Chromium: "

_PROGRAMS = {"chromium": "chromium", "chromedriver": "chromium-driver"}
"""Programs, and the packages that they come with."""
_PATIENCE = 20  # seconds for the driver to start
_SCRIPT_SECONDS = 120  # for one script, on a machine that has much else to do
_OPTIONS = (
    *("--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update", "--disable-dev-shm-usage"),
)


class Browser:
    """A browser with a profile of its own, new and empty. Cannot outlive the tests."""

    def __init__(self) -> None:
        ensure_installed()
        self._directory = Path(tempfile.mkdtemp(prefix="browser-"))
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        command = [_path("chromedriver"), f"--port={port}"]
        log = self._directory / "driver.log"
        # What it leaves in the temporary directory goes with ours.
        env = {**os.environ, "TMPDIR": str(self._directory), "HOME": str(self._directory)}
        self._server = Leashed(command, env=env, log=log)
        address = f"http://127.0.0.1:{port}"
        deadline = time.monotonic() + _PATIENCE
        try:
            while not _answers(address):
                if not self._server.is_running() or time.monotonic() > deadline:
                    raise RuntimeError(f"chromedriver did not start: {log.read_text()}")
                time.sleep(0.02)
            self.driver = self._open(address)
        except BaseException:
            self._end()
            raise

    def _open(self, address: str) -> WebDriver:
        options = webdriver.ChromeOptions()
        options.binary_location = _path("chromium")
        for option in (*_OPTIONS, f"--user-data-dir={self._directory / 'profile'}"):
            options.add_argument(option)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        driver = webdriver.Remote(ChromeRemoteConnection(address), options=options)
        driver.set_script_timeout(_SCRIPT_SECONDS)
        return driver

    def command(self, name: str, **parameters: object) -> None:
        """Give it a command of the DevTools protocol."""
        self.driver.execute("executeCdpCommand", {"cmd": name, "params": parameters})

    def errors(self) -> list[str]:
        """Return the errors that its console has shown since they were asked for last."""
        entries = self.driver.execute("getLog", {"type": "browser"})["value"]
        severe = [entry["message"] for entry in entries if entry["level"] == "SEVERE"]
        return [each for each in severe if "favicon.ico" not in each]  # which it asks for by itself

    def close(self) -> None:
        try:
            self.driver.quit()
        finally:
            self._end()

    def _end(self) -> None:
        self._server.kill()
        shutil.rmtree(self._directory, ignore_errors=True)


def ensure_installed() -> None:
    """Install what is missing; where that is not possible, skip the test, or fail it in CI."""
    missing = [package for name, package in _PROGRAMS.items() if shutil.which(name) is None]
    if not missing:
        return
    if not debian.can_install():
        _give_up("it is not installed, and only root on Debian can install it here")
    try:
        for package in missing:
            debian.install(package)
    except subprocess.SubprocessError as error:
        output = (getattr(error, "output", None) or "").strip()[-2000:]
        _give_up(f"it is not installed and could not be: {error}\n{output}")


def _path(program: str) -> str:
    found = shutil.which(program)
    assert found is not None
    return found


def _answers(address: str) -> bool:
    try:
        with urllib.request.urlopen(f"{address}/status", timeout=1) as response:
            return response.status == 200
    except OSError:
        return False


def _give_up(reason: str) -> NoReturn:
    if os.environ.get("CI"):
        pytest.fail(NO_BROWSER + reason, pytrace=False)
    pytest.skip(NO_BROWSER + reason)
