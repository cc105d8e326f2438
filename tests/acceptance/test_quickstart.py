"""The quickstart, followed literally in an empty directory."""

import os
import re
import shlex
import subprocess
import sys
import uuid
from pathlib import Path
from urllib.parse import quote

import psycopg
import pytest
from django.db import connection
from kombu import Connection

ROOT = Path(__file__).resolve().parents[2]
BLOCK = re.compile(r"^```(python|console)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
FILE = re.compile(r"# (\S+\.py)( \(add\))?\n")

# The directory, the environment with what is installed, and the database are those of the test.
PREPARED = ("mkdir ", "cd ", "python3 -m venv ", ". .venv/", "pip install ", "createdb ")


class Newcomer:
    """Does what the page says: writes the files, types the commands, compares what is printed."""

    def __init__(self, directory: Path, environment: dict[str, str]) -> None:
        self.directory = directory
        clean = {k: v for k, v in os.environ.items() if not k.startswith(("DJANGO", "PG"))}
        clean.pop("DATABASE_URL", None)
        tools = str(Path(sys.executable).parent)
        self.environment = (
            clean
            | environment
            | {"PATH": f"{tools}{os.pathsep}{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
        )
        self.commands = 0

    def follow(self, page: str) -> None:
        for kind, text in BLOCK.findall(page):
            if kind == "python":
                self.write(text)
            else:
                for command, expected in steps(text):
                    self.type(command, expected)

    def write(self, text: str) -> None:
        match = FILE.match(text)
        assert match, f"a block without a file name:\n{text}"
        path = self.directory / match[1]
        path.parent.mkdir(exist_ok=True)
        before = path.read_text() if match[2] else ""
        path.write_text(before + text)

    def type(self, command: str, expected: str) -> None:
        if command.startswith(PREPARED):
            return
        if command.startswith("export "):
            name, _, value = command.removeprefix("export ").partition("=")
            self.environment.setdefault(name, value)  # a server of the tests stands for it
            return
        done = subprocess.run(
            shlex.split(command),
            cwd=self.directory,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=60,
        )
        self.commands += 1
        printed = done.stdout + done.stderr
        is_error = "Error" in expected or "Invalid" in expected
        assert (done.returncode != 0) is is_error, f"$ {command}\n{printed}"
        assert expected.rstrip("…\n ") in printed, f"$ {command}\n{printed}"


def steps(text: str) -> list[tuple[str, str]]:
    """Return (command, expected output); a quoted command may go on over several lines."""
    found: list[tuple[str, str]] = []
    for part in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
        lines = part.splitlines()
        count = 1
        while "\n".join(lines[:count]).count('"') % 2:
            count += 1
        found.append(("\n".join(lines[:count]), "\n".join(lines[count:])))
    return found


def page_about_tests() -> str:
    """Return what the page about tests says of the project of the quickstart."""
    page = (ROOT / "docs" / "how-to" / "testing.md").read_text()
    return page.partition("## From the quickstart\n")[2].partition("\n## ")[0]


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.django_db(transaction=True)
def test_the_quickstart_works_as_it_stands(tmp_path: Path, broker_url: str) -> None:
    """Every block of docs/quickstart.md, in order, on SQLite, then on PostgreSQL and RabbitMQ.

    And then the tests that docs/how-to/testing.md has for its project.
    """
    name = f"quickstart_{uuid.uuid4().hex[:8]}"
    settings = connection.settings_dict
    server = {
        "host": str(settings["HOST"] or settings.get("OPTIONS", {}).get("host", "")),
        "user": str(settings["USER"]),
        "port": str(settings["PORT"] or "5432"),
        **({"password": str(settings["PASSWORD"])} if settings["PASSWORD"] else {}),
    }
    user = ":".join(quote(server[each], safe="") for each in ("user", "password") if each in server)
    url = f"postgresql://{user}@{quote(server['host'], safe='')}:{server['port']}/{name}"
    with psycopg.connect(dbname="postgres", autocommit=True, **server) as admin:
        admin.execute(f"CREATE DATABASE {name}")
        try:
            newcomer = Newcomer(
                tmp_path,
                {"DATABASE_URL": url, "BROKER_URL": broker_url},
            )
            page = (ROOT / "docs" / "quickstart.md").read_text()
            # Nobody else's queue on a broker that we share.
            newcomer.follow(page.replace('"/mysite"', f'"/{name}"'))
            newcomer.follow(page_about_tests())
        finally:
            admin.execute(f"DROP DATABASE {name} WITH (FORCE)")
            with Connection(broker_url) as link:
                link.channel().queue_delete(name)

    assert newcomer.commands > 17


def test_the_readmes_example_is_the_quickstarts() -> None:
    """The Python of the README is that of the quickstart, so that the test above covers it."""

    def files(page: str) -> dict[str, str]:
        blocks = [
            text for kind, text in BLOCK.findall((ROOT / page).read_text()) if kind == "python"
        ]
        return {FILE.match(text)[1]: code(text) for text in blocks if FILE.match(text)}  # type: ignore[index]

    def code(text: str) -> str:
        return re.sub(r"  #.*", "", text)

    readme, quickstart = files("README.md"), files("docs/quickstart.md")
    assert readme
    assert all(quickstart[name] == text for name, text in readme.items())
