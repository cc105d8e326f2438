"""The catalogues say all that the code says, as it says it, and are what gettext reads."""

import re
from collections import defaultdict
from pathlib import Path

import django
import pytest
from babel.messages.catalog import Message
from babel.messages.pofile import read_po

from scripts import translations
from scripts.translations import LOCALES, PACKAGES, Text

pytestmark = pytest.mark.sqlite

PLACEHOLDER = re.compile(r"%\(\w+\)[sd]|%[sd%]|\{\w*\}")
OF_DJANGO = ("contrib/admin", "contrib/auth", "conf")
"""Directories of Django whose texts stand on our pages."""
OTHERWISE = {("de", "Messages")}
"""What Django means another thing by: its own app of messages to users."""

each_catalogue = pytest.mark.parametrize(
    ("package", "locale"), [(package, locale) for package in PACKAGES for locale in LOCALES]
)


def strings(message: Message) -> list[str]:
    """Return a translation, in all its forms."""
    found = message.string if isinstance(message.string, tuple | list) else [message.string]
    return [str(each) for each in found]


def texts(message: Message) -> list[str]:
    return list(message.id) if isinstance(message.id, tuple | list) else [str(message.id)]


def wrong_placeholders(message: Message) -> list[str]:
    """Return the forms of a translation in which others than the placeholders of the text are."""
    singular, *plural = (sorted(PLACEHOLDER.findall(each)) for each in texts(message))
    return [
        each
        for each in strings(message)
        if sorted(PLACEHOLDER.findall(each)) not in [singular, *plural]
    ]


@each_catalogue
def test_it_is_up_to_date(package: str, locale: str) -> None:
    """Nothing is missing, nothing is left over: else run `make translations`, and translate."""
    there = translations.path_of(package, locale).read_bytes()
    catalogue = translations.read(package, locale)

    assert there == translations.written(translations.updated(package, locale, catalogue))
    assert [each.id for each in translations.missing(catalogue)] == []
    assert not catalogue.obsolete
    assert not [each.id for each in catalogue if each.fuzzy]


@each_catalogue
def test_what_is_compiled_is_what_is_written(package: str, locale: str) -> None:
    """gettext reads the other file."""
    compiled = translations.path_of(package, locale, "mo").read_bytes()

    assert compiled == translations.compiled(translations.read(package, locale))


@each_catalogue
def test_its_placeholders_are_those_of_the_text(package: str, locale: str) -> None:
    """Another one would be an error as soon as somebody looks at the page."""
    found = {each.id: wrong_placeholders(each) for each in translations.read(package, locale)}

    assert {key: each for key, each in found.items() if key and each} == {}


@pytest.mark.parametrize("locale", LOCALES)
def test_a_text_is_translated_in_one_way(locale: str) -> None:
    """Whichever package says it: gettext has one for all, and that of Django where it has one."""
    found: dict[tuple[object, object], set[str]] = defaultdict(set)
    for package in PACKAGES:
        for each in translations.read(package, locale):
            found[each.id, each.context].add(" / ".join(strings(each)))
    for key, theirs in _of_django(locale).items():
        if key in found and (locale, key[0]) not in OTHERWISE:
            found[key].add(theirs)

    assert {key: each for key, each in found.items() if key[0] and len(each) > 1} == {}


def _of_django(locale: str) -> dict[tuple[object, object], str]:
    found = {}
    root = Path(django.__file__).parent
    for directory in OF_DJANGO:
        path = root / directory / "locale" / locale / "LC_MESSAGES" / "django.po"
        with path.open("rb") as file:
            for each in read_po(file):
                if each.id and all(strings(each)) and not each.fuzzy:
                    found[each.id, each.context] = " / ".join(strings(each))
    return found


@pytest.mark.parametrize("locale", LOCALES)
def test_the_words_are_those_of_the_glossary(locale: str) -> None:
    """Its second table is what translators go by."""
    glossary = (translations.ROOT / "docs" / "glossary.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| ([^|]+) \| ([^|]+) \| ([^|]+) \|$", glossary, re.MULTILINE)
    words = {row[0].strip(): row[1 + list(LOCALES).index(locale)].strip() for row in rows[2:]}
    found = {
        text: strings(each)[0]
        for package in PACKAGES
        for each in translations.read(package, locale)
        for text in texts(each)[:1]
    }

    assert len(words) > 30
    assert {word: found.get(word) for word in words} == words


# --- What the extraction finds, and what the tests above would ------------------------------------


def test_what_is_marked_in_python_is_found() -> None:
    """Also over several lines, and in a method of a module."""
    source = """
from django.utils.translation import gettext_lazy as _, ngettext, pgettext
a = _("one " "and two")
b = ngettext("%(n)s row", "%(n)s rows", n)
c = translation.pgettext("noun", "lead")
"""
    assert set(translations.of_python(source, "a.py")) == {
        Text("one and two"),
        Text("%(n)s row", "%(n)s rows"),
        Text("lead", context="noun"),
    }


@pytest.mark.parametrize("text", ['f"{n} rows"', "text", '"rows " + n'])
def test_what_nobody_can_translate_is_refused(text: str) -> None:
    """A text that is put together at run time is in no catalogue."""
    source = f"from django.utils.translation import gettext as _\na = _({text})"

    with pytest.raises(translations.Unreadable, match=r"a\.py:2"):
        list(translations.of_python(source, "a.py"))


def test_an_underscore_of_ones_own_is_left_alone() -> None:
    """It is a common name."""
    assert list(translations.of_python("a = _(1)", "a.py")) == []


def test_what_is_marked_in_a_template_is_found() -> None:
    """In all blocks, as Django itself would look for it."""
    source = (
        '{% load i18n %}{% block a %}{% if b %}{% translate "95 % of it" %}{% endif %}'
        "{% blocktranslate count count=n %}{{ count }} row{% plural %}{{ count }} rows"
        '{% endblocktranslate %}{% endblock %}<p title="{% translate "Title" %}">'
    )
    assert set(translations.of_template(source, "a.html")) == {
        Text("95 %% of it"),
        Text("%(count)s row", "%(count)s rows"),
        Text("Title"),
    }


@pytest.mark.parametrize("other", ["%(counts)s Zeilen", "Zeilen", "%(count)d Zeilen", "{} Zeilen"])
def test_another_placeholder_would_be_found(other: str) -> None:
    """A misspelt name, one too few, another type."""
    assert wrong_placeholders(Message("%(count)s rows", other)) == [other]
    assert wrong_placeholders(Message("%(count)s rows", "%(count)s Zeilen")) == []


def test_a_new_text_is_missing_until_it_is_translated(monkeypatch: pytest.MonkeyPatch) -> None:
    """And one that is gone is gone."""
    monkeypatch.setattr(translations, "extract", lambda package: {Text("Brand new"): {"a.py"}})
    catalogue = translations.updated("outbox", "de", translations.read("outbox", "de"))

    assert [each.id for each in translations.missing(catalogue)] == ["Brand new"]
    assert [each.id for each in catalogue if each.id] == ["Brand new"]
