"""On what a measurement was made: the machine, the versions, who else was at work."""

import os
import platform
import re
import time
from importlib.metadata import version
from pathlib import Path

import psycopg

PACKAGES = ("django", "psycopg", "kombu", "amqp", "msgspec")


def machine() -> dict[str, str]:
    return {
        "cpu": _cpu(),
        "cores": str(len(os.sched_getaffinity(0))),
        "memory": _memory(),
        "system": f"{platform.system()} {platform.release()}",
        "cores busy before": f"{busy():.2f}",
    }


def busy(seconds: float = 1.0) -> float:
    """Return how many cores are occupied while we wait: by others."""
    before, started = _busy_seconds(), time.monotonic()
    time.sleep(seconds)
    return (_busy_seconds() - before) / (time.monotonic() - started)


def _busy_seconds() -> float:
    fields = _read("/proc/stat").partition("\n")[0].split()[1:]
    if not fields:
        return 0.0
    user, nice, system, _idle, _wait, irq, softirq, steal, *_ = map(int, fields)
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")


def versions(database_url: str, broker_version: str) -> dict[str, str]:
    with psycopg.connect(database_url) as connection:
        row = connection.execute("SHOW server_version").fetchone()
    assert row is not None
    return {
        "Python": platform.python_version(),
        "PostgreSQL": str(row[0]),
        "RabbitMQ": broker_version or "none",
        **{package: version(package) for package in PACKAGES},
    }


def _cpu() -> str:
    found = re.search(r"model name\s*: (.*)", _read("/proc/cpuinfo"))
    return found[1] if found else platform.processor() or platform.machine()


def _memory() -> str:
    found = re.search(r"MemTotal:\s*(\d+) kB", _read("/proc/meminfo"))
    return f"{int(found[1]) / 2**20:.0f} GiB" if found else "unknown"


def _read(path: str) -> str:
    try:
        return Path(path).read_text()
    except OSError:
        return ""
