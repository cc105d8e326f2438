"""What the page on production says about probes, as it stands."""

import re
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from django.core.management import load_command_class
from django.db import connection
from django.test import Client, override_settings
from django.urls import path

from outbox.runtime import health
from outbox.telemetry import readiness
from tests.acceptance.test_docs import PYTHON, ROOT
from tests.kit.probes import ask, health_url, wait_for
from tests.kit.processes import running

YAML = re.compile(r"^```yaml\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PAGE = (ROOT / "docs/production.md").read_text()
SECTION = PAGE.partition("\n## Probes\n")[2].partition("\n## ")[0]

urlpatterns: list[Any] = []


@pytest.fixture
def urls() -> Iterator[None]:
    """The project's URLs are those of the page."""
    names: dict[str, Any] = {"path": path}
    exec(PYTHON.findall(SECTION)[0], names)
    urlpatterns[:] = names["urlpatterns"]
    with override_settings(ROOT_URLCONF=__name__):
        yield
    urlpatterns.clear()


def container() -> dict[str, Any]:
    deployment = yaml.safe_load(YAML.findall(SECTION)[0])
    spec = deployment["spec"]
    assert spec["selector"]["matchLabels"] == spec["template"]["metadata"]["labels"]
    [found] = spec["template"]["spec"]["containers"]
    assert isinstance(found, dict)
    return found


@pytest.mark.slow
@pytest.mark.skipif(connection.vendor != "postgresql", reason="the process needs the database")
@pytest.mark.django_db(transaction=True)
def test_the_container_answers_its_probes(database_url: str) -> None:
    """A process with the arguments of the page, but at a port that is free."""
    found = container()
    python, manage, *arguments = found["args"]
    assert (python, manage) == ("python", "manage.py")
    options = load_command_class("relay", "relay").create_parser("manage.py", "relay")
    port = vars(options.parse_args(arguments[1:]))["health_port"]
    probes = [found[name]["httpGet"] for name in ("livenessProbe", "readinessProbe")]
    assert {probe["port"] for probe in probes} == {port}

    local = {"DATABASE_URL": database_url, "BROKER_URL": ""}
    command = ["0" if each == str(port) else each for each in arguments]
    command[command.index("0.0.0.0")] = "127.0.0.1"
    with running(*command, **local) as process:
        url = health_url(process)
        wait_for(f"{url}/readyz", 200, "ok")
        assert [ask(url + probe["path"]) for probe in probes] == [(200, "ok\n")] * 2


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("urls")
def test_the_views_answer_the_probe_of_the_web_process() -> None:
    """By its host, and without a redirect to HTTPS."""
    probe = yaml.safe_load(YAML.findall(SECTION)[1])["readinessProbe"]["httpGet"]
    [host] = [each["value"] for each in probe["httpHeaders"] if each["name"] == "Host"]
    names: dict[str, Any] = {}
    exec(PYTHON.findall(SECTION)[1], names)
    secure = override_settings(
        ALLOWED_HOSTS=[host],
        MIDDLEWARE=[
            "django.middleware.security.SecurityMiddleware",
            "django.middleware.common.CommonMiddleware",
        ],
        SECURE_SSL_REDIRECT=True,
        SECURE_REDIRECT_EXEMPT=names["SECURE_REDIRECT_EXEMPT"],
    )
    with secure:
        client = Client(headers={"host": host})
        assert client.get(probe["path"]).content == b"ok\n"
        assert client.get("/healthz").content == b"ok\n"
        assert client.get("/other").status_code == 301


def test_the_numbers_of_the_page() -> None:
    """Are those of the code."""
    assert f"by default {health.SECONDS:.0f}" in SECTION
    assert f"answers within {readiness.LIMIT:.0f} seconds" in SECTION
    for word in (readiness.DATABASE, readiness.MIGRATIONS):
        assert f"`{word}`" in SECTION
