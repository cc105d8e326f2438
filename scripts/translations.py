"""Bring the catalogues up to date with the code: `make translations`.

What is marked for translation is found as Python and Django themselves read it: calls in the syntax
tree, nodes in the templates. Translations that are there are kept, others are left empty; what is
said nowhere any more goes. Nothing is guessed, so nothing is fuzzy.
"""

import ast
import io
import os
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import django
from babel.messages.catalog import Catalog, Message
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po, write_po
from django.template import Engine
from django.template.base import Node, NodeList, Variable
from django.templatetags.i18n import BlockTranslateNode, TranslateNode
from django.utils.translation import trim_whitespace

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("outbox", "relay", "inbox")
LOCALES = {"de": "(n != 1)", "zh_Hans": "0"}
"""The languages, as directories are called, each with its rule for plurals."""
LOOKED_UP = {
    "stage.state",  # the label of a state, here or in another service
    "state",  # likewise
    "pruner.name",  # the plural of a model, mostly
    "first + end",  # what an operation has written to the log
}
"""What is looked up by a text that is marked elsewhere."""
_HEAD = """\
# What the admin of %(package)s says, in %(locale)s. `make translations` adds what is new, and
# compiles it. The words to use are in docs/glossary.md."""
_PLAIN = {"_", "gettext", "gettext_lazy", "gettext_noop"}
_PLURAL = {"ngettext", "ngettext_lazy"}
_IN_CONTEXT = {"pgettext", "pgettext_lazy"}


@dataclass(frozen=True, slots=True)
class Text:
    """What is to be translated: in the singular and the plural, if it has one."""

    singular: str
    plural: str = ""
    context: str = ""


class Unreadable(Exception):
    """Something is marked that no extraction can read."""


def extract(package: str) -> Mapping[Text, set[str]]:
    """Return what a package has to be translated, and the files that say it."""
    found: dict[Text, set[str]] = {}
    for path in sorted((ROOT / package).rglob("*")):
        name = path.relative_to(ROOT).as_posix()
        if path.suffix == ".py" and "/migrations/" not in name:
            texts = of_python(path.read_text(encoding="utf-8"), name)
        elif path.suffix == ".html":
            texts = of_template(path.read_text(encoding="utf-8"), name)
        else:
            continue
        for text in texts:
            found.setdefault(text, set()).add(name)
    return found


def of_python(source: str, name: str) -> Iterator[Text]:
    """Yield what a module marks; what is put together there cannot be translated."""
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call):
            continue
        called = node.func.attr if isinstance(node.func, ast.Attribute) else ""
        called = node.func.id if isinstance(node.func, ast.Name) else called
        count = 1 if called in _PLAIN else 2 if called in _PLURAL | _IN_CONTEXT else 0
        parts = [each.value for each in node.args[:count] if isinstance(each, ast.Constant)]
        texts = [each for each in parts if isinstance(each, str)]
        if len(texts) < count:
            if _is_ours(source, called) and ast.unparse(node.args[0]) not in LOOKED_UP:
                raise Unreadable(f"{name}:{node.lineno}: {ast.unparse(node)}")
        elif called in _IN_CONTEXT:
            yield Text(texts[1], context=texts[0])
        elif count:
            yield Text(*texts)


def _is_ours(source: str, called: str) -> bool:
    """Tell whether a name is that of Django's function, and not one of a module's own."""
    return called != "_" or "import gettext as _" in source or "import gettext_lazy as _" in source


def of_template(source: str, name: str) -> Iterator[Text]:
    """Yield what a template marks."""
    for node in _nodes(Engine.get_default().from_string(source).nodelist):
        if isinstance(node, TranslateNode):
            text = node.filter_expression.var
            if not isinstance(text, Variable) or not isinstance(text.literal, str):
                raise Unreadable(f"{name}: {node.token.contents}")
            context = node.message_context.var if node.message_context else ""
            yield Text(text.literal.replace("%", "%%"), context=str(context))
        elif isinstance(node, BlockTranslateNode):
            singular, plural = (
                node.render_token_list(each)[0] for each in (node.singular, node.plural)
            )
            if node.trimmed:
                singular, plural = trim_whitespace(singular), trim_whitespace(plural)
            yield Text(singular, plural)


def _nodes(nodes: NodeList) -> Iterator[Node]:
    for node in nodes:
        yield from node.get_nodes_by_type(Node)


def path_of(package: str, locale: str, suffix: str = "po") -> Path:
    """Return where a catalogue is, or what it is compiled to."""
    return ROOT / package / "locale" / locale / "LC_MESSAGES" / f"django.{suffix}"


def read(package: str, locale: str) -> Catalog:
    """Return a catalogue; an empty one if there is none."""
    path = path_of(package, locale)
    if not path.exists():
        return Catalog(locale=locale)
    with path.open("rb") as file:
        return read_po(file, locale=locale)


def updated(package: str, locale: str, before: Catalog) -> Catalog:
    """Return a catalogue of what is said now, with the translations of another one."""
    count = 2 if locale == "de" else 1
    catalogue = Catalog(
        locale=locale,
        header_comment=_HEAD % {"package": package, "locale": locale},
        project="django-outbox-inbox",
        version="1",
        fuzzy=False,
    )
    catalogue._num_plurals, catalogue._plural_expr = count, LOCALES[locale]
    for text, files in sorted(extract(package).items(), key=lambda item: item[0].singular):
        ids = (text.singular, text.plural) if text.plural else text.singular
        known = before.get(text.singular, text.context or None)
        string = known.string if known and known.id == ids else ""
        catalogue.add(
            ids,
            string or (("",) * count if text.plural else ""),
            locations=[(each, None) for each in sorted(files)],
            context=text.context or None,
            flags=["python-format"] if "%(" in text.singular or "%d" in text.singular else [],
        )
    return catalogue


def written(catalogue: Catalog) -> bytes:
    """Return a catalogue as it stands in its file: without dates, which would change by the day."""
    file = io.BytesIO()
    write_po(file, catalogue, width=100, include_lineno=False)
    dates = (b"POT-Creation-Date", b"PO-Revision-Date", b"Last-Translator", b"Report-Msgid")
    lines = file.getvalue().split(b"\n")
    skipped = (*dates, b"Language-Team", b"Generated-By")
    return b"\n".join(line for line in lines if not line.lstrip(b'"').startswith(skipped))


def compiled(catalogue: Catalog) -> bytes:
    """Return what gettext reads."""
    # Its head tells how to count, and nothing that changes by itself.
    plain = read_po(io.BytesIO(written(catalogue)), locale=catalogue.locale)
    plain.creation_date = datetime(2026, 1, 1, tzinfo=UTC)  # else it is that of now
    file = io.BytesIO()
    write_mo(file, plain)
    return file.getvalue()


def missing(catalogue: Catalog) -> list[Message]:
    """Return what is not translated, or not in all its forms."""
    return [each for each in catalogue if each.id and not _is_whole(each)]


def _is_whole(message: Message) -> bool:
    strings = message.string if isinstance(message.string, tuple | list) else [message.string]
    return all(strings)


def main() -> int:
    """Write all catalogues; say what has yet to be translated."""
    left = 0
    for package in PACKAGES:
        for locale in LOCALES:
            catalogue = updated(package, locale, read(package, locale))
            path = path_of(package, locale)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(written(catalogue))
            path_of(package, locale, "mo").write_bytes(compiled(catalogue))
            for each in missing(catalogue):
                print(f"{path.relative_to(ROOT)}: {each.id!r} is not translated")
                left += 1
    return 1 if left else 0


if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "project.settings")
    django.setup()
    sys.exit(main())
