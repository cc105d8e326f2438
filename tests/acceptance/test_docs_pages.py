"""The documentation is whole: every page can be found, every public package has its reference."""

import re
from itertools import product
from pathlib import Path
from xml.etree import ElementTree

import inbox.states
import relay.states
from tests.test_public_api import PACKAGES, ROOT

DOCS = ROOT / "docs"
# Django looks into them itself; nobody imports them.
FOR_DJANGO = re.compile(r"\.admin$")


def test_the_index_leads_to_every_page() -> None:
    """The index links each page once: the table of contents is made from it."""
    pages = {str(path.relative_to(DOCS)) for path in DOCS.rglob("*.md")} - {"index.md"}
    linked = re.findall(r"\]\(([^)#:]+\.md)\)", (DOCS / "index.md").read_text())

    assert sorted(linked) == sorted(pages)


def test_the_index_and_the_readme_name_the_same_how_tos() -> None:
    """A how-to that the index has is in the README as well."""
    readme = Path(ROOT / "README.md").read_text()
    missing = [page.name for page in (DOCS / "how-to").glob("*.md") if page.name not in readme]

    assert not missing


def test_a_page_has_one_title() -> None:
    """Its own, in the index and in the README, but for a small letter within a line."""
    for listing, base in ((ROOT / "README.md", ROOT), (DOCS / "index.md", DOCS)):
        for title, page in re.findall(r"\[([^]]+)\]\(([^)#:]+\.md)\)", _lists(listing)):
            own = (base / page).read_text().partition("\n")[0].removeprefix("# ")
            assert title[0].upper() + title[1:] == own, listing


def test_every_public_package_is_in_the_reference() -> None:
    """Each package that lists its names is on the page that shows their docstrings."""
    page = (DOCS / "reference/api.md").read_text()
    public = [package for package in PACKAGES if not FOR_DJANGO.search(package)]

    assert [name for name in public if not re.search(rf":: {name}[.\n]", page)] == []


def test_the_picture_has_the_verbs_of_the_glossary_in_their_order() -> None:
    """It numbers them as a message meets them."""
    [said] = re.findall(r"^The verbs, in order: (.+)\.$", (DOCS / "glossary.md").read_text(), re.M)
    picture = (DOCS / "flow.svg").read_text()
    numbered = re.findall(r"[> ](\d+) ([a-z]+)", "".join(re.findall(r">[^<]+<", picture)))

    assert [verb for _, verb in sorted(numbered, key=lambda each: int(each[0]))] == said.split(
        " → "
    )


def test_the_picture_of_receipts_is_the_table() -> None:
    """Its arrows are the transitions that the code has, each under the name of its event."""
    assert _arrows("receipts.svg") == {
        (state.value if state else "new", event.value, target.value)
        for (state, event), target in inbox.states.TRANSITIONS.items()
    }


def test_the_picture_of_parked_messages_is_the_table() -> None:
    """Its arrows are the transitions that the code has, each under the name of its verb."""
    assert _arrows("parked.svg") == {
        (state.value, verb.value, transition.target.value)
        for verb, transition in relay.states.TRANSITIONS.items()
        for state in transition.sources
    }


def test_every_word_of_the_glossary_has_its_place_in_the_code() -> None:
    """CONTRIBUTING.md says for each of them which module to open."""
    words = re.findall(r"^\| \*\*([^*]+)\*\* \|", (DOCS / "glossary.md").read_text(), re.M)
    table = re.search(r"^\| word \|.*?\n\n", (ROOT / "CONTRIBUTING.md").read_text(), re.M | re.S)
    assert table is not None
    placed = [
        word.strip()
        for cell in re.findall(r"^\| ([^|]+) \| `", table[0], re.M)
        for word in cell.split(",")
    ]

    assert [word for word in words if word not in placed] == []


def test_every_file_that_is_named_exists() -> None:
    """Modules and folders of ours, in all prose: a file that has moved is named where it is now."""
    tops = "outbox|relay|inbox|pytest_outbox|project|tests|benchmarks|scripts|docs"
    pages = [ROOT / "CONTRIBUTING.md", ROOT / "README.md", *DOCS.rglob("*.md")]
    named = {
        (str(page.relative_to(ROOT)), path)
        for page in pages
        for path in re.findall(rf"`((?:{tops})/[\w./-]*)`", page.read_text())
    }

    assert len(named) > 30
    assert [each for each in sorted(named) if not (ROOT / each[1]).exists()] == []


def _lists(page: Path) -> str:
    """Return the part of a page that lists the others."""
    return re.split(r"^## (?:Documentation|Begin)$", page.read_text(), flags=re.M)[1]


def _arrows(picture: str) -> set[tuple[str, ...]]:
    """Return from where, why and to where the arrows of a picture lead; each is drawn once."""
    found = []
    for group in ElementTree.parse(DOCS / picture).iter():
        if event := group.get("data-event"):
            assert [text.strip() for text in group.itertext() if text.strip()] == [event]
            ends = [group.attrib["data-from"], event, group.attrib["data-to"]]
            found += product(*(each.split(", ") for each in ends))
    assert len(found) == len(set(found))
    return set(found)
