"""pg_snapshot as arithmetic, held against PostgreSQL itself."""

import pytest
from django.db import connection
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra.django import TestCase

from relay.snapshots import EMPTY, parse, stragglers


@st.composite
def snapshots(draw: st.DrawFn) -> str:
    xmin = draw(st.integers(3, 50))
    xmax = draw(st.integers(xmin, xmin + 20))
    between = st.sets(st.integers(xmin, xmax - 1)) if xmax > xmin else st.just(set())
    return f"{xmin}:{xmax}:{','.join(map(str, sorted(draw(between))))}"


class AgainstPostgreSQL(TestCase):
    @settings(max_examples=50, deadline=None)
    @given(snapshots())
    def test_a_snapshot_sees_what_postgresql_says_it_sees(self, text: str) -> None:
        """Our arithmetic agrees with pg_visible_in_snapshot() for every id around a snapshot."""
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT n FROM generate_series(3, 80) AS n "
                "WHERE pg_visible_in_snapshot(n::text::xid8, %s::pg_snapshot)",
                [text],
            )
            visible = {row[0] for row in cursor.fetchall()}

        assert {xid for xid in range(3, 81) if parse(text).sees(xid)} == visible


def test_the_empty_snapshot_sees_no_transaction() -> None:
    """Nothing that can be written is visible in EMPTY."""
    assert not any(parse(EMPTY).sees(xid) for xid in range(3, 100))


def test_stragglers_were_in_flight_below_and_are_visible_above() -> None:
    """Only transactions that finished between the two snapshots are fetched by id."""
    assert stragglers("5:12:5,7,9", "7:20:7,15") == [5, 9]


@pytest.mark.parametrize(
    "text",
    [
        *(
            "",
            "1:2",
            "a:b:c",
            "1:2:x",
            "1:2:3:4",
            "1:2:,",
            " 1:2:",
            "1_0:20:",
            "\u0661:2:",
            "-1:2:",
        ),
        *("5:4:", "0:1:", "4:8:3", "4:8:8", "4:8:6,5", "4:8:5,5"),
    ],
)
def test_what_is_no_snapshot_is_refused(text: str) -> None:
    """Text that is no snapshot is a ValueError that quotes it."""
    with pytest.raises(ValueError, match="not a pg_snapshot"):
        parse(text)


@given(snapshots(), snapshots())
@example("3:3:", "3:4:3")
def test_a_snapshot_covers_what_it_sees_all_of(one: str, other: str) -> None:
    """And no other: every id around them says the same."""
    seen = {xid for xid in range(100) if parse(one).sees(xid)}
    seen_by_other = {xid for xid in range(100) if parse(other).sees(xid)}

    assert parse(one).covers(parse(other)) is (seen_by_other <= seen)
