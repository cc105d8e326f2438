"""Install servers where that is possible: on Debian and its kin, as root."""

import os
import shutil
import subprocess
from pathlib import Path

# The documented way to tell Debian's packages not to start their services.
_POLICY = Path("/usr/sbin/policy-rc.d")
_APT = ["apt-get", "-q", "-o", "DPkg::Lock::Timeout=300"]


def can_install() -> bool:
    """Return whether this is a Debian on which we may install packages."""
    return os.geteuid() == 0 and shutil.which("apt-get") is not None


def install_rabbitmq() -> None:
    """Install rabbitmq-server without starting the system's node."""
    install("rabbitmq-server")


def install(package: str) -> None:
    """Install a server's package without starting it as a service."""
    made_policy = not _POLICY.exists()
    if made_policy:
        _POLICY.write_text("#!/bin/sh\nexit 101\n")
        _POLICY.chmod(0o755)
    try:
        _run([*_APT, "update"])
        _run([*_APT, "install", "-y", "--no-install-recommends", package])
    finally:
        if made_policy:
            _POLICY.unlink()


def _run(command: list[str]) -> None:
    subprocess.run(
        command,
        check=True,
        env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=900,
    )
