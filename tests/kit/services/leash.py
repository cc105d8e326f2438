"""Start a server that cannot outlive the process that started it."""

import contextlib
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

# A watcher reads from a pipe that only the owner can write to. It sees the end of file when the
# owner lets go or dies, by whatever signal, and kills the process group. The server replaces the
# shell, so that the owner's child is the server itself.
_SCRIPT = 'exec 3<&0 </dev/null; (read -r _ <&3; kill -KILL 0) & exec 3<&-; exec "$@"'


class Leashed:
    """A server, with its children, on a leash."""

    def __init__(self, command: list[str], *, env: Mapping[str, str], log: Path) -> None:
        inner, self._leash = os.pipe()
        try:
            with log.open("ab") as output:
                self.process = subprocess.Popen(
                    ["/bin/sh", "-c", _SCRIPT, "leashed", *command],
                    env=env,
                    stdin=inner,
                    stdout=output,
                    stderr=output,
                    start_new_session=True,
                )
        finally:
            os.close(inner)

    def is_running(self) -> bool:
        """Return whether the server has not ended."""
        return self.process.poll() is None

    def terminate(self, timeout: float) -> None:
        """Ask the server to end, wait for it, and kill what is left of it."""
        self.process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(timeout)
        self.kill()

    def kill(self) -> None:
        """Kill the server and its children at once."""
        if self._leash >= 0:
            os.close(self._leash)
            self._leash = -1
        self.process.wait()
