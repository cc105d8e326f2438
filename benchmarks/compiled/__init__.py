"""A compiled AMQP client, built when it is needed: the limit of the broker."""

import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import unquote, urlsplit

from benchmarks.processes import report

SOURCE = Path(__file__).with_name("publish.c")


class NoCompiler(Exception):
    """The client cannot be built here; says what is missing."""


@contextmanager
def client() -> Iterator[Path]:
    """Build the client in a temporary directory; raise NoCompiler if that is impossible."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        raise NoCompiler("there is no C compiler; on Debian: apt-get install gcc libc6-dev")
    with tempfile.TemporaryDirectory(prefix="bench-") as directory:
        program = Path(directory) / "publish"
        made = subprocess.run(
            [compiler, "-O2", "-o", str(program), str(SOURCE), "-lrabbitmq"],
            check=False,
            capture_output=True,
            text=True,
        )
        if made.returncode:
            reason = "librabbitmq is missing; on Debian: apt-get install librabbitmq-dev"
            raise NoCompiler(reason if "amqp.h" in made.stderr else made.stderr.strip()[-500:])
        yield program


def publish(
    program: Path,
    url: str,
    *,
    exchange: str,
    topic: str,
    count: int,
    window: int,
    size: int,
    headers: Mapping[str, str],
) -> dict[str, float]:
    """Publish messages of `size` bytes; return their number, seconds and seconds of processor."""
    parts = urlsplit(url)
    where = [
        parts.hostname or "127.0.0.1",
        str(parts.port or 5672),
        unquote(parts.username or "guest"),
        unquote(parts.password or "guest"),
        unquote(parts.path.removeprefix("/")) or "/",
    ]
    what = [exchange, topic, str(count), str(window), str(size)]
    written = [f"{name}={value}" for name, value in headers.items()]
    done = subprocess.run(
        [str(program), *where, *what, *written], check=False, capture_output=True, text=True
    )
    if done.returncode:
        raise RuntimeError(f"the compiled client failed: {done.stderr.strip()}")
    said: dict[str, float] = report(done.stdout)
    return said
