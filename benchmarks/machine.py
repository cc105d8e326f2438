"""On what a measurement was made: the machine, the versions, who else was at work."""

import os
import platform
import re
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
        "load before": f"{os.getloadavg()[0]:.2f}",
    }


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
