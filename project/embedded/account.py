"""Run PostgreSQL's programs under an account that they accept: they refuse to run as root."""

import os
import pwd
import shutil
import subprocess
from pathlib import Path

ACCOUNT = "embedded_postgres"


def is_root() -> bool:
    """Return whether this process runs as root."""
    return os.geteuid() == 0


def run(command: list[str], *, timeout: float) -> subprocess.CompletedProcess[str]:
    """Run the command, as the account if this process is root, and return what it said."""
    as_account = (
        {"user": _account().pw_uid, "group": _account().pw_gid, "extra_groups": []}
        if is_root()
        else {}
    )
    result: subprocess.CompletedProcess[str] = subprocess.run(  # type: ignore[call-overload]
        command,
        check=False,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        timeout=timeout,
        cwd="/",  # readable by the account, unlike perhaps the current directory
        # No PGPORT, PGOPTIONS … of the user's own server, and no locale that is not installed here.
        env={k: v for k, v in os.environ.items() if not k.startswith("PG")} | {"LC_ALL": "C"},
        umask=0o077,
        **as_account,
    )
    return result


def give(directory: Path) -> None:
    """Make the account the owner of a directory that this process has just made."""
    if is_root():
        os.chown(directory, _account().pw_uid, _account().pw_gid)


def let_read(directory: Path) -> None:
    """Let the account read everything in a directory of public files."""
    if is_root():
        let_reach(directory)
        for path in (directory, *directory.rglob("*")):
            if not path.is_symlink():
                mode = path.stat().st_mode
                wanted = mode | (0o555 if mode & 0o100 else 0o444)
                if wanted != mode:
                    path.chmod(wanted)


def let_reach(path: Path) -> None:
    """Let the account pass through the directories above, though not list them."""
    if is_root():
        for parent in path.resolve().parents:
            mode = parent.stat().st_mode
            if not mode & 0o001:
                parent.chmod(mode | 0o001)


def _account() -> pwd.struct_passwd:
    try:
        return pwd.getpwnam(ACCOUNT)
    except KeyError:
        useradd = shutil.which("useradd", path="/usr/sbin:/sbin:/usr/bin:/bin")
        if useradd is None:
            raise RuntimeError(
                f"PostgreSQL refuses to run as root and there is no useradd to make the account "
                f"{ACCOUNT}: make it, run this as another user, or set DATABASE_URL."
            ) from None
        made = subprocess.run(
            [useradd, "--system", "--no-create-home", "--user-group", ACCOUNT],
            check=False,
            capture_output=True,
            text=True,
        )
        try:  # another process may have been faster
            return pwd.getpwnam(ACCOUNT)
        except KeyError:
            raise RuntimeError(f"useradd {ACCOUNT} failed: {made.stderr.strip()}") from None
