"""Bookmarks of the log: exact across late commits, pages and processes."""

import random
from dataclasses import replace

import pytest
from django.db import connection, transaction

import outbox
from outbox.models import Message
from relay.log import PostgreSQLLog, following
from relay.log.following import Bookmark, Follower, Glance
from relay.snapshots import EMPTY
from tests.kit.sessions import sessions
from tests.kit.support import Registered
from tests.proofs.concurrency.scenario import Scenario

pytestmark = [pytest.mark.django_db(transaction=True)]


@pytest.fixture(autouse=True)
def _event_type(registered: Registered) -> None:
    registered("api.told")


def emit(count: int = 1) -> None:
    with transaction.atomic():
        for number in range(count):
            outbox.emit("api.told", {"n": number})


def read_all(
    mark: Bookmark, size: int = 100, kind: type[Follower] = Follower
) -> tuple[list[int], Bookmark]:
    """Read until there is nothing more, each page by another process that has only the text."""
    found: list[int] = []
    empty = 0
    follower = kind("default")
    while empty < 2:  # what is not on disk yet is there at the next look
        glance = follower.read(Bookmark.read(str(mark)), size)
        found += glance.positions
        mark = glance.after
        empty = 0 if glance.positions else empty + _flushed()
    return found, mark


def _flushed() -> int:
    if connection.vendor != "postgresql":
        return 1
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_current_wal_flush_lsn() >= pg_current_wal_insert_lsn()")
        return int(cursor.fetchone()[0])


def positions() -> list[int]:
    return list(Message.objects.order_by("position").values_list("position", flat=True))


@pytest.mark.sqlite
def test_everything_is_seen_once_in_pages_of_any_size() -> None:
    """From the beginning, and from where one came in."""
    emit(5)
    found, mark = read_all(Follower("default").beginning(), 2)
    assert found == positions()
    emit(3)
    assert read_all(mark, 1)[0] == positions()[5:]


@pytest.mark.sqlite
def test_from_now_on_nothing_older_is_seen() -> None:
    """Only what commits later."""
    emit(2)
    mark = Follower("default").now()
    emit(1)
    assert read_all(mark)[0] == positions()[2:]


@pytest.mark.sqlite
def test_one_goes_on_within_a_page() -> None:
    """The bookmark of each position leads to the one behind it."""
    emit(4)
    follower = Follower("default")
    glance = follower.read(follower.beginning(), 3)
    while not glance.positions:
        glance = follower.read(glance.after, 3)
    for number, position in enumerate(glance.positions, 1):
        assert read_all(glance.bookmark(position), 2)[0] == positions()[number:]


def test_a_late_commit_is_not_skipped() -> None:
    """It has a lower position than what was seen, and comes behind it."""
    mark = Follower("default").now()
    with sessions(1) as [late]:
        late.begin()
        late.run(outbox.emit, "api.told", {"late": True})
        emit(2)
        found, mark = read_all(mark)
        assert found == positions()
        late.commit()
        late_found, mark = read_all(mark)

    assert late_found == [min(positions())]
    emit(1)
    assert read_all(mark)[0] == [max(positions())]


def test_a_late_commit_is_seen_on_by_one_that_was_in_the_middle() -> None:
    """A window is over what it was opened for, however long somebody stays away."""
    follower = Follower("default")
    mark = follower.now()
    with sessions(1) as [late]:
        late.begin()
        late.run(outbox.emit, "api.told", {"late": 1})
        emit(3)
        glance = follower.read(mark, 1)
        while not glance.positions:
            glance = follower.read(glance.after, 1)
        late.run(outbox.emit, "api.told", {"late": 2})
        late.commit()
    emit(1)
    found, _ = read_all(glance.after, 1)

    assert sorted([*glance.positions, *found]) == positions()
    assert len(set(found)) == len(found)


def test_a_bookmark_of_another_cluster_is_refused() -> None:
    """Its ids mean nothing here."""
    emit(1)
    with pytest.raises(following.MovedDatabase):
        Follower("default").read(Bookmark(cluster=1, floor=EMPTY), 1)


@pytest.mark.sqlite
@pytest.mark.parametrize(
    "text",
    [
        *("", "x", "é", "A" * 20_000, "eJyLBQABFQC5"),
        str(Bookmark(cluster=0, floor="2:1:")),
        str(Bookmark(cluster=0, floor="9:9:", ceiling="5:5:")),
        str(Bookmark(cluster=-1, floor="")),
        str(Bookmark(cluster=0, floor="", last=2**64)),
        str(Bookmark(cluster=0, floor=f"1:{2**64}:")),
    ],
)
def test_what_is_no_bookmark_is_refused(text: str) -> None:
    """Nothing of it reaches the database."""
    with pytest.raises(ValueError):  # noqa: PT011 - of many kinds
        Bookmark.read(text)


class AlwaysLarge(Follower):
    """Takes every window for a large one, which starts where a checkpoint has said."""

    def _start(self, mark: Bookmark) -> int:
        return mark.bound


class BoundOfTheTime(AlwaysLarge):
    """Starts where the sequence stands when the window before is opened: ids may be at work."""

    def _now(self) -> following.Now:
        [(highest,)] = self._query("SELECT max(position) FROM django_outbox_message", {})
        return super()._now()._replace(bound=highest or 0)


class ById(Follower):
    """`id > last`: skips what commits after a higher position was seen."""

    def read(self, mark: Bookmark, size: int) -> Glance:
        found = list(
            Message.objects.filter(position__gt=mark.last)
            .order_by("position")
            .values_list("position", flat=True)[:size]
        )
        after = Bookmark(cluster=0, floor="", last=found[-1] if found else mark.last)
        return Glance(positions=found, window=mark, after=after)


def listen(seed: int, kind: type[Follower]) -> tuple[list[int], list[int]]:
    """Let the writers of the relays' scenario write; return what was seen and what is there."""
    rng = random.Random(seed)
    seen: list[int] = []
    scenario = Scenario(lambda: PostgreSQLLog("test", using="default"), seed, 20, relays=2)
    relay = scenario._relay

    def relay_or_listener(number: int) -> None:
        relay(number) if number else listener()

    def listener() -> None:
        mark = Bookmark(cluster=0, floor="") if kind is ById else kind("default").beginning()
        done = 0
        while done < 3:
            # Reconnects at any time, with nothing but the text of the last thing that it saw.
            follower = kind("default")
            for _ in range(rng.randint(2, 6)):
                last_look = not scenario._writing.is_set()
                glance = follower.read(Bookmark.read(str(mark)), rng.choice([1, 3, 20]))
                keep = rng.randint(1, len(glance.positions)) if glance.positions else 0
                cut = keep < len(glance.positions) and rng.random() < 0.3
                seen.extend(glance.positions[:keep] if cut else glance.positions)
                mark = glance.bookmark(glance.positions[keep - 1]) if cut else glance.after
                done = done + _flushed() if last_look and not glance.positions else 0
                if cut:
                    break

    scenario._relay = relay_or_listener  # type: ignore[method-assign]
    scenario.run()
    return seen, positions()


@pytest.mark.timeout(120)
def test_nothing_is_skipped_or_seen_twice_while_eight_write() -> None:
    """Late commits, early ids, rollbacks; pages of any size, and reconnects within them."""
    seed = random.SystemRandom().randrange(10**6)
    seen, there = listen(seed, Follower)

    assert len(there) > 200
    assert sorted(seen) == there, seed
    assert seen != there, "nothing has committed late"


@pytest.mark.timeout(120)
def test_nothing_is_skipped_in_large_windows() -> None:
    """They start where the newest checkpoint of any relay has said."""
    seed = random.SystemRandom().randrange(10**6)
    seen, there = listen(seed, AlwaysLarge)

    assert sorted(seen) == there, seed


@pytest.mark.parametrize(
    ("kind", "skipped"), [(Follower, 0), (AlwaysLarge, 0), (BoundOfTheTime, 1), (ById, 1)]
)
def test_a_bound_is_below_what_was_at_work(kind: type[Follower], skipped: int) -> None:
    """A start that is taken from what is seen skips what has its position, and no id as yet."""
    emit(1)
    mark = Bookmark(cluster=0, floor="") if kind is ById else kind("default").beginning()
    with connection.cursor() as cursor:
        sequence = "pg_get_serial_sequence('django_outbox_message', 'position')"
        cursor.execute(f"SELECT nextval({sequence})")
        [taken] = cursor.fetchone()
    emit(1)
    found, mark = read_all(mark, kind=kind)
    with transaction.atomic():
        emit(1)
        Message.objects.filter(position=max(positions())).update(position=taken)
    late_found, mark = read_all(mark, kind=kind)

    assert len(found) == 2
    assert len(positions()) - len(found + late_found) == skipped


def test_a_large_window_is_not_looked_through(monkeypatch: pytest.MonkeyPatch) -> None:
    """It starts at the bound that its bookmark brings."""
    monkeypatch.setattr(following, "LARGE", 2)
    mark = Follower("default").now()
    emit(2)
    assert read_all(mark)[0] == positions()
    emit(1)
    assert read_all(mark)[0] == positions()
    # As if a checkpoint had said so: what is below is not even looked at.
    bound = replace(mark, bound=positions()[0])
    assert read_all(bound)[0] == positions()[1:]


@pytest.mark.mutant
@pytest.mark.timeout(120)
def test_the_scenario_catches_a_listener_by_position() -> None:
    """`id > last` loses what commits late."""
    assert any(set(there) - set(seen) for seen, there in (listen(n, ById) for n in range(30)))
