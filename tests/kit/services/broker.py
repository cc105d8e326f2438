"""Choose the RabbitMQ that the tests use.

1. the one that BROKER_URL names;
2. one on this machine's standard port that lets guest in;
3. a private node, started from the installed rabbitmq-server;
4. the same, after installing it, where that is possible.

TEST_BROKER=private skips the first two.
"""

import os
import subprocess
from typing import NoReturn

import pytest

from tests.kit.services import debian, rabbitmq
from tests.kit.services.tls import Certificate

LOCAL_URL = "amqp://guest:guest@127.0.0.1:5672//"
NO_BROKER = "no RabbitMQ: "


def running_url() -> str | None:
    """Return the URL of a broker that runs without our doing."""
    if os.environ.get("TEST_BROKER") == "private":
        return None
    if url := os.environ.get("BROKER_URL"):
        if not rabbitmq.answers(url):
            pytest.fail("BROKER_URL is set, and no broker lets us in there.", pytrace=False)
        return url
    return LOCAL_URL if rabbitmq.answers(LOCAL_URL) else None


def ensure_installed() -> None:
    """Install RabbitMQ if it is missing; without it, skip the test, or fail it in CI."""
    if rabbitmq.find_server() is not None:
        return
    if not debian.can_install():
        _give_up("rabbitmq-server is not installed, and only root on Debian can install it here")
    try:
        debian.install_rabbitmq()
    except subprocess.SubprocessError as error:
        output = (getattr(error, "output", None) or "").strip()[-2000:]
        _give_up(f"rabbitmq-server is not installed and could not be: {error}\n{output}")


def start_private_node(certificate: Certificate | None = None) -> rabbitmq.RabbitNode:
    """Start a node of our own, which may take encrypted connections; the caller closes it."""
    ensure_installed()
    node = rabbitmq.RabbitNode(certificate)
    try:
        node.start()
    except BaseException:
        node.close()
        raise
    return node


def _give_up(reason: str) -> NoReturn:
    if os.environ.get("CI"):
        pytest.fail(NO_BROKER + reason, pytrace=False)
    pytest.skip(NO_BROKER + reason)
