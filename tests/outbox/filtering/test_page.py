"""The page of the docs about filters has what is declared, and its examples can be used."""

import re
from pathlib import Path
from typing import Any

import pytest
from django.db.models import Model

from inbox.models import Binding, DeadLetter, OpenRequest, Receipt
from outbox.filtering import grammar
from outbox.filtering.qualifiers import declared, models, select
from outbox.models import (
    Acknowledgement,
    Break,
    Message,
    Reconciliation,
    Request,
    Scheduled,
)
from relay.models import Checkpoint, Parked

pytestmark = [pytest.mark.sqlite, pytest.mark.django_db]

PAGE = (Path(__file__).resolve().parents[3] / "docs/reference/filters.md").read_text()
MODELS: list[type[Model]] = [
    Message,
    Scheduled,
    Request,
    Acknowledgement,
    Reconciliation,
    Break,
    Parked,
    Checkpoint,
    Receipt,
    DeadLetter,
    OpenRequest,
    Binding,
]


def section(model: type[Model]) -> str:
    """Return what the page has to have about a model: copy it there if a test says so."""
    found = declared(model)
    lines = ["| write | to find by | index |", "|---|---|---|"]
    for each in found.qualifiers.values():
        if not each.refused:
            index = each.index or "none: row by row"
            example = grammar.term(each.name, each.example)
            lines.append(f"| `{example}` | {each.meaning} | {index} |")
    if found.words_meaning:
        lines.append(f"| a text by itself | {found.words_meaning} | one for each |")
    refused = [
        f"`{each.name}:` cannot be looked for: {each.refused}."
        for each in found.qualifiers.values()
        if each.refused
    ]
    heading = f"## {str(model._meta.verbose_name_plural).capitalize()}"
    return "\n".join([heading, "", *lines, *(["", *refused] if refused else []), ""])


@pytest.mark.parametrize("model", MODELS)
def test_the_page_has_every_qualifier(model: type[Model]) -> None:
    """With its meaning and its index, and says which cannot be used, and why."""
    assert section(model) in PAGE


def test_the_page_has_every_model() -> None:
    """And no other."""
    assert set(MODELS) == {each for each in models() if each._meta.app_label.startswith("django_")}
    assert PAGE.count("\n| write | to find by | index |") == len(MODELS)


def test_the_examples_of_the_page_can_be_used() -> None:
    """Each line of its blocks is a filter of the list that the block is named after."""
    blocks = re.findall(r"```text\n(.*?)```", PAGE, re.DOTALL)
    assert blocks
    for line in "".join(blocks).splitlines():
        which, _, text = line.partition(" | ")
        [model] = [each for each in MODELS if each._meta.model_name == which.strip()]
        select(model, text, "default")


def test_the_program_of_the_page_runs() -> None:
    """As it stands."""
    [program] = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    found: dict[str, Any] = {}
    exec(program, found)

    assert found["page"].rows == list(found["everything"]) == []
