"""Sphinx: these pages, and the reference made from docstrings, as HTML. Run `make docs`."""

import ast
import re
import tomllib
from pathlib import Path
from typing import Any

import django
from django.conf import settings
from sphinx.application import Sphinx

ROOT = Path(__file__).resolve().parent.parent

# Django's models and checks can be imported only in a project.
settings.configure(
    INSTALLED_APPS=["outbox", "relay", "inbox"],
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
    RELAYS={"default": {"BACKEND": "relay.brokers.local.LocalBroker"}},
    USE_TZ=True,
)
django.setup()

project = "django-outbox-inbox"
author = "django-outbox-inbox contributors"
project_copyright = author
version = release = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]

extensions = ["myst_parser", "sphinx.ext.autodoc"]
exclude_patterns = ["_build"]
nitpicky = True
# What belongs to others is not looked up: a build needs no network.
nitpick_ignore_regex = [
    (
        r"py:.*",
        r"(celery|collections|contextlib|datetime|decimal|django|enum|kombu|msgspec|typing|uuid"
        r"|rest_framework)\..*",
    ),
    # Type variables, and names that are imported for type checkers alone.
    (r"py:class", r"([\w.]+\.)?[A-Z]|Content|HttpRequest|HttpResponse|Message|Model"),
]

myst_heading_anchors = 4

# Docstrings mark code as Markdown does, with one backtick.
default_role = "code"
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
maximum_signature_line_length = 80

html_theme = "furo"
html_title = f"{project} {release}"
html_copy_source = False

_SECTION = re.compile(r"^## (.+?)\n(.*?)(?=^## |\Z)", re.MULTILINE | re.DOTALL)
_OPTION = re.compile(r"^([A-Z_]+(?:, [A-Z_]+)*):", re.MULTILINE)
_PAGE = re.compile(r"\]\(([^):#]+)\.md\)")


def add_contents(app: Sphinx, name: str, source: list[str]) -> None:
    """Make the table of contents from the links of the index, section by section."""
    if name != "index":
        return
    for title, text in _SECTION.findall(source[0]):
        pages = "\n".join(_PAGE.findall(text))
        source[0] += f"\n```{{toctree}}\n:hidden:\n:caption: {title}\n\n{pages}\n```\n"


def mark_up(app: Sphinx, kind: str, name: str, it: Any, options: Any, lines: list[str]) -> None:
    """Give docstrings, which are plain text, the markup that Sphinx needs."""
    lines[:] = "\n\n".join(map(_marked_up, "\n".join(lines).split("\n\n"))).split("\n")


def _marked_up(paragraph: str) -> str:
    if _is_code(paragraph):
        return ".. code-block:: python\n\n    " + paragraph.strip("\n").replace("\n", "\n    ")
    if _OPTION.search(paragraph):  # one a line, as in the classes of settings
        return _OPTION.sub(r"\n- ``\1``:", paragraph.replace("\n    ", "\n  "))
    return paragraph


def _is_code(paragraph: str) -> bool:
    try:
        ast.parse(paragraph)
    except SyntaxError:
        return False
    return "(" in paragraph or " = " in paragraph


def setup(app: Sphinx) -> None:
    """Let Sphinx call us."""
    app.connect("source-read", add_contents)
    app.connect("autodoc-process-docstring", mark_up)
