"""Pages by primary key."""

from collections.abc import Sequence

import pytest
from django.contrib.auth.models import Group
from django.db import connection
from django.db.models import Q
from django.test.utils import CaptureQueriesContext

from outbox.admin_support import keyset
from outbox.admin_support.keyset import Page, Place, Reader
from outbox.filtering.qualifiers import Selection

pytestmark = [pytest.mark.sqlite, pytest.mark.django_db]


@pytest.fixture
def groups() -> list[int]:
    """The keys of ten rows, the newest first; every third is named "rare"."""
    made = [
        Group.objects.create(name=f"{'rare' if n % 3 == 0 else 'plain'} {n}") for n in range(10)
    ]
    return [group.pk for group in reversed(made)]


def reader(size: int = 4, *, alternatives: Sequence[Q] = (), unindexed: Sequence[Q] = ()) -> Reader:
    return Reader(
        queryset=Group.objects.all(), size=size, alternatives=alternatives, unindexed=unindexed
    )


def keys(page: Page) -> list[int]:
    return [row.pk for row in page.rows]


def downwards(reading: Reader) -> list[list[int]]:
    """Return the keys of all pages, from the newest on."""
    page = reading.read(None)
    pages = [keys(page)]
    while page.older:
        page = reading.read(page.older)
        pages.append(keys(page))
    return pages


def upwards(reading: Reader, start: Place) -> list[list[int]]:
    """Return the keys of all pages above a place."""
    place: Place | None = start
    pages = []
    while place:
        page = reading.read(place)
        pages.append(keys(page))
        place = page.newer
    return pages


def test_pages_go_down_to_the_end(groups: list[int]) -> None:
    """Every row once, newest first, and no further page after the last."""
    assert downwards(reader()) == [groups[:4], groups[4:8], groups[8:]]


def test_pages_go_up_again(groups: list[int]) -> None:
    """From the oldest row, newer pages end with the newest row, each newest first."""
    assert upwards(reader(), Place("after", groups[-1])) == [
        groups[5:9],
        groups[1:5],
        groups[:1],
    ]


def test_back_and_forth_is_the_same_page(groups: list[int]) -> None:
    """The page that "newer" leads to is the one that "older" came from."""
    second = reader().read(reader().read(None).older)
    assert second.newer is not None

    assert keys(reader().read(second.newer)) == groups[:4]


def test_a_place_whose_row_is_gone(groups: list[int]) -> None:
    """A link from before a deletion still leads to the rows next to it."""
    Group.objects.filter(pk__in=groups[3:5]).delete()

    assert keys(reader().read(Place("before", groups[3]))) == groups[5:9]


def test_an_empty_page_leads_back(groups: list[int]) -> None:
    """Beyond either end there is a way back to the rows."""
    below = reader().read(Place("before", groups[-1]))
    above = reader().read(Place("after", groups[0]))

    assert below.newer is not None
    assert above.older is not None
    assert keys(below) == keys(above) == []
    assert keys(reader().read(below.newer)) == groups[-4:]
    assert keys(reader().read(above.older)) == groups[:4]


def test_alternatives_are_united(groups: list[int]) -> None:
    """A row that fulfils several conditions comes once, on whatever page."""
    alternatives = [Q(name__startswith="rare"), Q(name__endswith="3"), Q(name="plain 1")]

    assert downwards(reader(2, alternatives=alternatives)) == [
        [groups[0], groups[3]],
        [groups[6], groups[8]],
        [groups[9]],
    ]


def test_an_unindexed_condition_looks_so_far(
    groups: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A page stops after SPAN keys, says so, and the next one goes on from there."""
    monkeypatch.setattr(keyset, "SPAN", 3)
    reading = reader(unindexed=[Q(name__startswith="rare")])
    first = reading.read(None)

    assert keys(first) == [groups[0]]
    assert first.looked_to == groups[2]
    assert [key for page in downwards(reading) for key in page] == groups[0::3]


def test_an_unindexed_condition_looks_up_again(
    groups: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same in the other direction."""
    monkeypatch.setattr(keyset, "SPAN", 3)
    reading = reader(unindexed=[Q(name__startswith="rare")])
    pages = upwards(reading, Place("after", groups[-1] - 1))

    assert [key for page in pages for key in page] == groups[0::3][::-1]


def test_a_full_page_looks_no_further(groups: list[int]) -> None:
    """With enough rows within the span nothing is cut off."""
    page = reader(2, unindexed=[Q(name__startswith="rare")]).read(None)

    assert keys(page) == [groups[0], groups[3]]
    assert page.looked_to is None
    assert page.older == Place("before", groups[3])


def test_the_number_of_statements_is_bounded(groups: list[int]) -> None:
    """One for a plain page, at most three for an unindexed one, one more for each alternative."""
    found = []
    for reading in (
        reader(),
        reader(unindexed=[Q(name="none")]),
        reader(alternatives=[Q(name="plain 1"), Q(name="plain 2")]),
    ):
        with CaptureQueriesContext(connection) as captured:
            reading.read(None)
        found.append(len(captured))

    assert found == [1, 3, 3]


@pytest.mark.parametrize("text", ["", "1", "before", "before-", "before-x", "after-1e9", "x-1"])
def test_nonsense_is_no_place(text: str) -> None:
    """A malformed page number shows the newest rows."""
    assert Place.parse(text) is None


@pytest.mark.parametrize("place", [Place("before", 17), Place("after", 0)])
def test_places_survive_the_address_bar(place: Place) -> None:
    """What is printed into a link is read from it."""
    assert Place.parse(str(place)) == place


def test_a_filter_can_be_read_page_by_page(groups: list[int]) -> None:
    """Each condition where it belongs."""
    wanted = Q(pk__in=groups[2:9])
    selection = Selection(part=[wanted], rows=[Q(name__startswith="rare")])
    found = Reader.over(Group.objects.all(), selection, 2).read(None)
    exact = Selection(part=[wanted], few=[Q(name__startswith="rare")])

    assert keys(found) == keys(Reader.over(Group.objects.all(), exact, 2).read(None))
    assert keys(found) == [each for each in groups[2:9] if (groups[-1] - each) % 3 == 0][:2]
