"""Child processes of the demo."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from project.demo.processes import ManageProcess, ProcessError
from project.demo.waiting import wait_until

pytestmark = pytest.mark.django_db

ROOT = Path(__file__).resolve().parents[3]

_OWNER = """
import sys
from pathlib import Path
import django
django.setup()
from project.demo.processes import ManageProcess
process = ManageProcess("relay", log=Path(sys.argv[1]))
print(process.pid, flush=True)
sys.stdin.read()
"""


def exists(pid: int) -> bool:
    """Tell whether a process runs; one that has ended and is not collected yet does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


def test_a_process_that_ends_by_itself_is_reported_with_its_output(tmp_path):
    """The error says which command it was, its exit code and why."""
    process = ManageProcess("no_such_command", log=tmp_path / "log")
    assert wait_until(lambda: not process.running, 30)

    with pytest.raises(ProcessError, match=r"(?s)no_such_command' ended with exit code 1.*Unknown"):
        process.ensure_running()
    assert not process.was_killed
    process.finish()


def test_the_last_figures_are_those_of_the_newest_line(tmp_path):
    """Lines that are no figures are passed over."""
    log = tmp_path / "log"
    process = ManageProcess("no_such_command", log=log)
    process.finish()
    assert process.last_figures() == {}
    log.write_text(
        '{"message": "progress", "duplicates": 1}\n'
        '{"message": "stopped", "duplicates": 7}\n'
        '{"message": "The broker is away"}\n[]\nTraceback'
    )

    assert process.last_figures()["duplicates"] == 7


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc").exists(), reason="looks for processes in /proc")
@pytest.mark.django_db(transaction=True)
def test_a_process_does_not_outlive_its_owner(tmp_path, database_url):
    """SIGKILL of the demo ends its relay."""
    environment = {
        **os.environ,
        "DATABASE_URL": database_url,
        "DJANGO_SETTINGS_MODULE": "project.settings",
    }
    owner = subprocess.Popen(
        [sys.executable, "-c", _OWNER, str(tmp_path / "log")],
        cwd=ROOT,
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    pid = int(owner.stdout.readline())
    assert exists(pid)
    owner.kill()
    owner.communicate()

    assert wait_until(lambda: not exists(pid), 10)
