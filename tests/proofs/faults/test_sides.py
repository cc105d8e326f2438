"""What is said of acknowledgements, callbacks and statements in a history."""

from collections.abc import Mapping

import pytest

from tests.proofs.faults import acknowledgements, callbacks, statements
from tests.proofs.faults.acknowledgements import Standing
from tests.proofs.faults.callbacks import Told, Wanted
from tests.proofs.faults.statements import Break

ACKNOWLEDGED = Standing(changes=3, rows=3, open=0, unfounded=0, untimely=0)
WANTED = [Wanted("one", "answered", "a"), Wanted("two", "expired", "b")]
SOUND = {"one": [Told("x", "answered", ("a",))], "two": [Told("y", "expired", ("b",))]}


def test_all_is_acknowledged() -> None:
    assert acknowledgements.flaws(ACKNOWLEDGED, []) == ""


@pytest.mark.parametrize(
    ("standing", "said"),
    [
        (ACKNOWLEDGED._replace(rows=2), "2 are awaited, of 3 changes"),
        (ACKNOWLEDGED._replace(open=1), "(1, 0, 0)"),
        (ACKNOWLEDGED._replace(unfounded=1), "(0, 1, 0)"),
        (ACKNOWLEDGED._replace(untimely=1), "(0, 0, 1)"),
    ],
)
def test_what_is_not(standing: Standing, said: str) -> None:
    assert said in acknowledgements.flaws(standing, [])


def test_what_was_sent_again_though_it_was_acknowledged() -> None:
    wrong = [("id", "handled 0", "handled 1")]
    assert "1 changes that must not be (id: handled 0" in acknowledgements.flaws(
        ACKNOWLEDGED, wrong
    )


def test_all_are_called_back() -> None:
    """Also more than once, with one id."""
    assert callbacks.flaws(WANTED, SOUND) == ""
    assert callbacks.flaws(WANTED, SOUND | {"one": SOUND["one"] * 2}) == ""
    assert callbacks.missing(WANTED, SOUND) == 0


@pytest.mark.parametrize(
    "told",
    [
        {},
        {"one": []},
        {"one": [Told("x", "failed", ("a",))]},
        {"one": [Told("x", "answered", ("b",))]},
        {"one": [Told("x", "answered", ())]},
        {"one": [*SOUND["one"], Told("z", "answered", ("a",))]},
        {"one": [*SOUND["one"], Told("x", "failed", ("a",))]},
    ],
)
def test_who_is_not_called_back_as_he_should(told: Mapping[str, list[Told]]) -> None:
    found = {"two": SOUND["two"], **told}
    assert "1 (one)" in callbacks.flaws(WANTED, found)


def test_who_is_called_back_and_has_not_asked() -> None:
    strange = SOUND | {"three": SOUND["one"]}
    assert callbacks.flaws(WANTED, strange).startswith("called back, and nobody has asked: 1")
    assert callbacks.missing([*WANTED, Wanted("four", "answered", "c")], strange) == 1


def test_a_break_that_nobody_has_planted_is_a_false_one() -> None:
    """Whether it is open still, or has mended itself; the kind counts as well."""
    found = Break("missing", "id", "repaired", "")
    assert statements.flaws([found], {("missing", "id")}) == ""
    assert statements.flaws([], {("missing", "id")}) == ""
    assert "false breaks: 1 (missing id repaired" in statements.flaws([found], {("unknown", "id")})
