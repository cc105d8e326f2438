"""The pytest plugin in other projects: found by itself, and in nobody's way."""

from pathlib import Path

import pytest

from tests.kit.pytests import run_pytest

GUARDED = """
import pytest
from outbox.exceptions import NotInTests
from outbox.guards import guard


@pytest.fixture
def reached():
    guard().connects("amqp://somewhere")


def test_guarded():
    with pytest.raises(NotInTests):
        guard().connects("amqp://somewhere")


@pytest.mark.outbox_broker
def test_marked(reached):
    guard().connects("amqp://somewhere")


@pytest.mark.outbox_broker
class TestMarked:
    def test(self):
        guard().connects("amqp://somewhere")
"""

WITHOUT_DJANGO = """
import sys


def test_nothing_is_imported():
    assert not {"django", "outbox", "celery"} & sys.modules.keys()
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "pytest.ini").write_text("[pytest]\naddopts = --strict-markers --strict-config\n")
    return tmp_path


@pytest.mark.slow
def test_a_project_without_django_pays_nothing(project: Path) -> None:
    """Not even an import."""
    (project / "test_plain.py").write_text(WITHOUT_DJANGO)
    # Others may import whatever they like.
    done = run_pytest(project, "-p", "pytest_outbox", PYTEST_DISABLE_PLUGIN_AUTOLOAD="1")

    assert "1 passed" in done.stdout, done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("options", [(), ("-n", "1"), ("-p", "no:django")])
def test_the_guard_is_on(project: Path, options: tuple[str, ...]) -> None:
    """Without any configuration, whatever other plugins there are; a mark takes it off."""
    (project / "test_guard.py").write_text(GUARDED)
    done = run_pytest(project, *options)

    assert "3 passed" in done.stdout, done.stdout


@pytest.mark.slow
def test_it_is_on_for_fixtures(project: Path) -> None:
    """What they set up may reach a broker as well."""
    (project / "test_guard.py").write_text(
        GUARDED + "\n\ndef test_with_fixture(reached):\n    pass\n"
    )
    done = run_pytest(project)

    assert "NotInTests: A connection to the broker at amqp://somewhere would be" in done.stdout
    assert "3 passed, 1 error" in done.stdout, done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("name", ["outbox", "pytest_outbox"])
def test_it_can_be_left_out(project: Path, name: str) -> None:
    """By either name; then nothing is guarded, and there is no mark."""
    (project / "test_guard.py").write_text(GUARDED)
    done = run_pytest(project, "-p", f"no:{name}", "-o", "addopts=")

    assert "1 failed, 2 passed" in done.stdout, done.stdout
    assert "DID NOT RAISE" in done.stdout


@pytest.mark.slow
def test_a_project_can_switch_it_off(project: Path) -> None:
    """For all its tests, as this one does."""
    with (project / "pytest.ini").open("a") as file:
        file.write("outbox_guard = false\n")
    (project / "test_guard.py").write_text(GUARDED)
    done = run_pytest(project)

    assert "1 failed, 2 passed" in done.stdout, done.stdout
