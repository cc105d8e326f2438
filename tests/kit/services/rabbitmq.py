"""Run private RabbitMQ nodes, beside any other node on this machine and invisible to it."""

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

import amqp
import kombu

from tests.kit.services.leash import Leashed
from tests.kit.services.tls import Certificate

# Debian's own start script in sbin would switch to the account of the system's node.
_SERVERS = ("/usr/lib/rabbitmq/bin/rabbitmq-server", "rabbitmq-server")
_PATH = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"])
_PATIENCE = 60  # seconds for a node to start or stop


def find_server() -> Path | None:
    """Return the start script of the installed RabbitMQ."""
    found = filter(None, (shutil.which(name, path=_PATH) for name in _SERVERS))
    return next(map(Path, found), None)


def answers(url: str) -> bool:
    """Return whether a broker lets us in at this URL."""
    try:
        # Not connect() of kombu's connection, which would try again after a pause.
        kombu.Connection(url, connect_timeout=3).transport.establish_connection().close()
    except (OSError, amqp.AMQPError, kombu.exceptions.KombuError):
        return False
    return True


class RabbitNode:
    """A RabbitMQ node of our own, which a test may stop, kill and start again.

    It keeps its port and its data until close(). With a certificate it takes encrypted connections
    as well, at `tls_port`.
    """

    def __init__(self, certificate: Certificate | None = None) -> None:
        server = find_server()
        if server is None:
            raise FileNotFoundError("rabbitmq-server is not installed")
        self._server = server
        self._directory = Path(tempfile.mkdtemp(prefix="rabbitmq-"))
        self.port, self.tls_port, distribution, self._epmd_port = _free_ports(4)
        self.url = f"amqp://guest:guest@127.0.0.1:{self.port}//"
        self._node: Leashed | None = None
        self._epmd: Leashed | None = None
        self._env = self._environment(distribution)
        (self._directory / "rabbitmq.conf").write_text(
            f"listeners.tcp.1 = 127.0.0.1:{self.port}\n"
            "disk_free_limit.absolute = 50MB\n"  # a nearly full disk shall not block the tests
            + (self._tls(certificate) if certificate else "")
        )
        (self._directory / "enabled_plugins").write_text("[].\n")
        (self._directory / "rabbitmq-env.conf").touch()

    def start(self) -> None:
        """Start the node, unless it runs, and wait until it lets clients in."""
        if self.is_running():
            return
        self._start_epmd()
        self._node = Leashed([str(self._server)], env=self._env, log=self._log)
        deadline = time.monotonic() + _PATIENCE
        while not answers(self.url):
            if not self.is_running() or time.monotonic() > deadline:
                self.kill()
                raise RuntimeError(f"RabbitMQ did not start:\n{self._log.read_text()[-4000:]}")
            time.sleep(0.1)

    def stop(self) -> None:
        """Shut the node down cleanly."""
        if self._node is not None:
            self.resume()
            self._node.terminate(_PATIENCE)
            self._node = None

    def kill(self) -> None:
        """End the node as a power failure would."""
        if self._node is not None:
            self._node.kill()
            self._node = None

    def pause(self) -> None:
        """Freeze the node: connections stay open and nothing answers."""
        os.kill(self._pid(), signal.SIGSTOP)

    def resume(self) -> None:
        """Undo pause()."""
        if self.is_running():
            os.kill(self._pid(), signal.SIGCONT)

    def is_running(self) -> bool:
        """Return whether the node's process lives."""
        return self._node is not None and self._node.is_running()

    def ctl(self, *arguments: str) -> str:
        """Run rabbitmqctl on the node and return what it prints."""
        return subprocess.run(
            [str(self._server.with_name("rabbitmqctl")), "--quiet", *arguments],
            env=self._env,
            check=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
            timeout=_PATIENCE,
        ).stdout

    def close(self) -> None:
        """Stop the node and remove everything it has written."""
        self.kill()
        if self._epmd is not None:
            self._epmd.kill()
            self._epmd = None
        shutil.rmtree(self._directory, ignore_errors=True)

    def _tls(self, certificate: Certificate) -> str:
        return (
            f"listeners.ssl.1 = 127.0.0.1:{self.tls_port}\n"
            f"ssl_options.cacertfile = {certificate.authority}\n"
            f"ssl_options.certfile = {certificate.file}\n"
            f"ssl_options.keyfile = {certificate.key}\n"
            "ssl_options.verify = verify_none\n"
        )

    @property
    def _log(self) -> Path:
        return self._directory / "output.log"

    def _pid(self) -> int:
        return int((self._directory / "node.pid").read_text())

    def _start_epmd(self) -> None:
        """Start the port mapper that Erlang needs; else the node starts one that stays for ever."""
        epmd = shutil.which("epmd", path=_PATH)
        if epmd and not (self._epmd and self._epmd.is_running()):
            command = [epmd, "-port", str(self._epmd_port), "-address", "127.0.0.1"]
            self._epmd = Leashed(command, env=self._env, log=self._log)

    def _environment(self, distribution_port: int) -> dict[str, str]:
        foreign = ("RABBITMQ_", "ERL_")  # settings of another node
        return {k: v for k, v in os.environ.items() if not k.startswith(foreign)} | {
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "ERL_EPMD_PORT": str(self._epmd_port),
            "HOME": str(self._directory),  # where Erlang keeps the cookie
            "RABBITMQ_CONF_ENV_FILE": str(self._directory / "rabbitmq-env.conf"),
            "RABBITMQ_CONFIG_FILE": str(self._directory / "rabbitmq.conf"),
            "RABBITMQ_DIST_PORT": str(distribution_port),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self._directory / "enabled_plugins"),
            "RABBITMQ_GENERATED_CONFIG_DIR": str(self._directory / "config"),
            "RABBITMQ_LOG_BASE": str(self._directory / "log"),
            "RABBITMQ_MNESIA_BASE": str(self._directory / "mnesia"),
            "RABBITMQ_NODENAME": f"test-{self.port}@localhost",
            "RABBITMQ_PID_FILE": str(self._directory / "node.pid"),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1}",
        }


def _free_ports(count: int) -> list[int]:
    """Return ports that were free a moment ago, all different."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    try:
        return [s.getsockname()[1] for s in sockets]
    finally:
        for each in sockets:
            each.close()
