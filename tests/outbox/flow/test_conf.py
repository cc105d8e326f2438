"""FLOW: what is wrong is told by a check, and no secret with it."""

from typing import Any

import pytest
from django.core.checks import run_checks
from django.test import override_settings

from outbox.flow.conf import Peer, flow_settings

GOOD = {"URL": "https://billing.example.com/flow/", "TOKEN": "s3cret"}


def flaws(flow: Any) -> list[str]:
    with override_settings(FLOW=flow):
        return [each.msg for each in run_checks() if each.id == "outbox.E007"]


@pytest.mark.parametrize(
    "url",
    [
        "https://billing.example.com",
        "https://billing.example.com:8443/a/b/",
        "http://localhost:8000/flow/",
        "http://127.0.0.1/flow/",
        "http://[::1]:8000/flow/",
    ],
)
def test_what_is_right(url: str) -> None:
    """Encrypted, or on this machine."""
    assert flaws({"PEERS": {"billing": GOOD | {"URL": url}}}) == []
    assert flaws({}) == []


@pytest.mark.parametrize(
    ("flow", "said"),
    [
        ({"PEER": {}}, "FLOW has unknown keys: PEER"),
        ({"PEERS": []}, "FLOW['PEERS'] must be a dict"),
        ({"PEERS": {"billing": []}}, "FLOW['PEERS']['billing'] must be a dict"),
        ({"PEERS": {"billing": {"URL": "https://x/"}}}, "TOKEN"),
        ({"PEERS": {"billing": GOOD | {"TOKEN": 7}}}, "['TOKEN'] must be a string"),
        ({"PEERS": {"": GOOD}}, "its name"),
        ({"PEERS": {"billing": GOOD | {"HOST": "x"}}}, "has unknown keys: HOST"),
    ],
)
def test_what_is_wrong(flow: Any, said: str) -> None:
    """Is told with its place."""
    assert any(said in flaw for flaw in flaws(flow))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"URL": "http://billing.example.com/"}, "must begin with https://"),
        ({"URL": "ftp://billing.example.com/"}, "must be an address"),
        ({"URL": "billing"}, "must be an address"),
        ({"URL": "https://[broken/"}, "must be an address"),
        ({"URL": "https://x:port/"}, "must be an address"),
        ({"URL": "https://u:hunter2@x/"}, "no user and no password"),
        ({"URL": "https://x/?a=hunter2"}, "no '?'"),
        ({"URL": "https://x/ä"}, "ASCII"),
        ({"URL": "https://x/a\r\nb"}, "ASCII"),
        ({"TOKEN": ""}, "TOKEN is empty"),
        ({"TOKEN": " \n"}, "TOKEN is empty"),
        ({"TOKEN": "hunter2\n"}, "TOKEN must be ASCII"),
        ({"TOKEN": "hunter2é"}, "TOKEN must be ASCII"),
    ],
)
def test_a_peer_that_cannot_be_asked(changes: dict[str, str], said: str) -> None:
    """The check names it, and shows neither its address nor its token."""
    found = flaws({"PEERS": {"billing": GOOD | changes}})

    assert any(said in flaw for flaw in found)
    assert all(flaw.startswith("FLOW['PEERS']['billing']") for flaw in found)
    assert not any("hunter2" in flaw for flaw in found)


def test_no_secret_is_printed() -> None:
    """Whoever prints or logs the settings."""
    with override_settings(FLOW={"PEERS": {"billing": GOOD}}):
        assert "s3cret" not in repr(flow_settings())
        assert flow_settings().peers == {"billing": Peer(**GOOD)}
        assert "s3cret" not in repr(flow_settings().peers)


@pytest.mark.parametrize("flow", [[], "steps", {"steps": 3}, None])
def test_what_another_library_has_under_that_name_is_none_of_ours(flow: Any) -> None:
    """It is no mistake, and says nothing of peers."""
    assert flaws(flow) == []
    with override_settings(FLOW=flow):
        assert flow_settings().peers == {}
