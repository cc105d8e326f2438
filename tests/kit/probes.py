"""Ask a process how it is, as a supervisor does."""

import urllib.error
import urllib.request

from tests.kit.processes import Process
from tests.kit.waiting import until


def health_url(process: Process) -> str:
    """Return where it answers, when it does."""
    process.wait_for(lambda: "Health at " in process.output)
    return process.output.split("Health at ")[1].split("/healthz")[0]


def ask(url: str, method: str = "GET", seconds: float = 10) -> tuple[int, str]:
    """Return status and text of an answer."""
    request = urllib.request.Request(url, method=method)
    try:
        with urllib.request.urlopen(request, timeout=seconds) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def wait_for(url: str, status: int, text: str) -> None:
    """Wait until it answers so."""
    until(lambda: ask(url) == (status, f"{text}\n"))
