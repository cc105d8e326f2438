"""The stream: exact across late commits and reconnects, by long polling and server-sent events."""

import asyncio
import json
import random
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from asgiref.sync import async_to_sync, sync_to_async
from django.db import connection, transaction
from django.test import AsyncClient, Client, override_settings

import outbox
from outbox.models import Message
from relay.api import stream
from relay.log.following import Bookmark
from relay.snapshots import EMPTY
from tests.kit.api import VIEW, Caller
from tests.kit.sessions import sessions
from tests.kit.support import Registered
from tests.proofs.concurrency.scenario import Scenario
from tests.relay.log.test_following import ById

pytestmark = [pytest.mark.django_db(transaction=True)]


@pytest.fixture(autouse=True)
def _quick(registered: Registered, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    registered("api.told")
    registered("api.other")
    monkeypatch.setattr(stream, "LOOK_EVERY", 0.02)
    monkeypatch.setattr(stream, "SOON", 0.02)
    with override_settings(OUTBOX_API={"READ_RATE": ""}):
        yield
    assert not stream._listeners


@pytest.fixture
def viewer() -> Caller:
    return Caller("viewer", *VIEW)


def emit(name: str = "api.told", **options: Any) -> str:
    with transaction.atomic():
        return outbox.emit(name, {}, **options).id


def ids(page: dict[str, Any]) -> list[str]:
    return [row["id"] for row in page["results"]]


@pytest.mark.sqlite
def test_long_polling_goes_on_from_its_cursor(viewer: Caller) -> None:
    """It begins with what comes; what was there is for whoever asks for the beginning."""
    before = emit()
    begun = viewer.get("stream")
    assert begun["results"] == []
    new = emit()
    page = viewer.get("stream", cursor=begun["cursor"], wait="5")

    assert ids(page) == [new]
    assert ids(viewer.get("stream", cursor=page["cursor"])) == []
    assert ids(viewer.get("stream", **{"from": "beginning", "wait": "5"})) == [before, new]


@pytest.mark.sqlite
def test_waiting_holds_no_connection(viewer: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
    """It ends as soon as something has come."""
    cursor = viewer.get("stream")["cursor"]
    slept = []

    def sleep(seconds: float) -> None:
        slept.append(connection.connection is None or connection.in_atomic_block)
        if len(slept) == 3:
            emit()

    monkeypatch.setattr(stream.time, "sleep", sleep)
    if connection.vendor == "sqlite":
        pytest.skip("the database of the tests is in memory, and ends with its connection")
    started = time.monotonic()
    assert len(viewer.get("stream", cursor=cursor, wait="20")["results"]) == 1

    assert len(slept) >= 3
    assert all(slept)
    assert time.monotonic() - started < 10


def test_a_late_commit_is_not_skipped(viewer: Caller) -> None:
    """It has a lower position than what was seen already."""
    cursor = viewer.get("stream")["cursor"]
    with sessions(1) as [late]:
        late.begin()
        wanted = late.run(outbox.emit, "api.told", {"late": True}).id
        first = emit()
        page = viewer.get("stream", cursor=cursor, wait="5")
        assert ids(page) == [first]
        late.commit()
    assert ids(viewer.get("stream", cursor=page["cursor"], wait="5")) == [wanted]


@pytest.mark.sqlite
def test_a_filter_and_a_scope_pass_over_the_rest(viewer: Caller) -> None:
    """The cursor goes past what is not seen."""
    cursor = viewer.get("stream")["cursor"]
    own = emit(key="tenant")
    emit("api.other", key="tenant")
    emit(key="b")
    found = viewer.get("stream", cursor=cursor, q="type:api.told key:tenant", wait="5")
    with override_settings(OUTBOX_API={"SCOPE": "tests.kit.api.mine", "READ_RATE": ""}):
        tenant = Caller("tenant", *VIEW)
        seen = tenant.get("stream", cursor=cursor, wait="5")

    assert ids(found) == [own]
    assert [row["key"] for row in seen["results"]] == ["tenant", "tenant"]
    assert ids(viewer.get("stream", cursor=seen["cursor"])) == []


@pytest.mark.sqlite
def test_who_may_not_see_messages_hears_nothing(viewer: Caller) -> None:
    """Nor is there anything for what makes no sense."""
    assert Caller("nobody").get("stream", status=403)
    for query in ({"wait": "21"}, {"wait": "x"}, {"wait": "-1"}, {"from": "x"}, {"cursor": "x"}):
        assert viewer.get("stream", status=400, **query)["errors"]
    assert viewer.get("stream", status=400, q="typ:x")["errors"]["q"]


def test_a_cursor_of_another_cluster_is_gone(viewer: Caller) -> None:
    """One has to begin again."""
    other = str(Bookmark(cluster=1, floor=EMPTY))
    assert viewer.get("stream", cursor=other, status=410)["type"].endswith("#gone")


def test_a_user_listens_a_few_times_at_once(
    viewer: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another one is not in the way."""
    monkeypatch.setattr(stream, "MOST_LISTENERS", 1)
    place = stream.Place(viewer.user.pk)
    assert "1 times" in viewer.get("stream", status=429)["detail"]
    assert Caller("other", *VIEW).get("stream")["cursor"]
    place.free()
    assert viewer.get("stream")["cursor"]


# --- Server-sent events --------------------------------------------------------------------------


class Events:
    """A stream of server-sent events, as a browser reads it."""

    def __init__(self, client: AsyncClient) -> None:
        self.client = client
        self.last_id = ""
        self.comments = 0

    async def read(self, count: int, *, seconds: float = 10.0) -> list[dict[str, Any]]:
        """Connect, return some events, and disconnect; fewer if the stream ends before."""
        headers = {"Accept": stream.EVENTS} | (
            {"Last-Event-ID": self.last_id} if self.last_id else {}
        )
        response = await self.client.get("/api/stream", headers=headers)
        assert response.status_code == 200, await self._content(response)
        assert response["Content-Type"] == stream.EVENTS
        found: list[dict[str, Any]] = []
        parts: AsyncIterator[bytes] = response.streaming_content  # type: ignore[attr-defined]
        try:
            async with asyncio.timeout(seconds):
                async for part in parts:
                    self._take(part.decode(), found)
                    if len(found) >= count:
                        break
        except TimeoutError:
            pass
        finally:
            await parts.aclose()  # type: ignore[attr-defined]
            await sync_to_async(response.close)()
        return found

    def _take(self, text: str, found: list[dict[str, Any]]) -> None:
        assert text.endswith("\n\n")
        for line in text.splitlines():
            name, _, value = line.partition(": ")
            if name == "id":
                self.last_id = value
            elif name == "data":
                found.append(json.loads(value))
            elif name == "":
                self.comments += 1

    @staticmethod
    async def _content(response: Any) -> Any:
        return getattr(response, "content", b"")


def events(caller: Caller) -> Events:
    client = AsyncClient()
    client.force_login(caller.user)
    return Events(client)


def test_events_go_on_behind_the_last_one_that_was_seen(viewer: Caller) -> None:
    """Each reconnect has the id of the last event and nothing else."""
    listening = events(viewer)
    listening.last_id = viewer.get("stream")["cursor"]
    emitted = [emit() for _ in range(5)]

    async def take() -> list[str]:
        found = await listening.read(2)
        found += await listening.read(1)
        found += await listening.read(2)
        return [each["id"] for each in found]

    assert async_to_sync(take)() == emitted


def test_an_event_comes_while_one_listens_and_late_commits_come_behind(viewer: Caller) -> None:
    """Without asking again."""
    listening = events(viewer)
    listening.last_id = viewer.get("stream")["cursor"]
    with sessions(1) as [late]:
        late.begin()
        wanted = late.run(outbox.emit, "api.told", {"late": True}).id

        async def take() -> list[dict[str, Any]]:
            reading = asyncio.ensure_future(listening.read(2))
            await asyncio.sleep(0.2)
            await sync_to_async(emit)()
            await asyncio.sleep(0.2)
            await sync_to_async(late.commit)()
            return await reading

        found = async_to_sync(take)()
    assert found[1]["id"] == wanted
    assert int(found[0]["position"]) > int(found[1]["position"])


def test_silence_is_filled_and_ends(viewer: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
    """With comments, each with where to go on; then the stream ends, and one comes back."""
    monkeypatch.setattr(stream, "HEARTBEAT", 0.05)
    monkeypatch.setattr(stream, "LONGEST", 0.5)
    listening = events(viewer)

    assert async_to_sync(listening.read)(1) == []
    assert listening.comments >= 2
    new = emit()
    assert [each["id"] for each in async_to_sync(listening.read)(1)] == [new]


def test_a_stream_counts_as_long_as_it_lasts(
    viewer: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is refused beside another, by its status."""
    monkeypatch.setattr(stream, "MOST_LISTENERS", 1)
    cursor = viewer.get("stream")["cursor"]

    listening = events(viewer)
    listening.last_id = cursor

    async def take() -> tuple[int, int]:
        reading = asyncio.ensure_future(listening.read(1))
        await asyncio.sleep(0.3)
        refused = await sync_to_async(viewer.client.get)("/api/stream")
        await sync_to_async(emit)()
        await reading
        allowed = await sync_to_async(viewer.client.get)("/api/stream")
        return refused.status_code, allowed.status_code

    assert async_to_sync(take)() == (429, 200)


# --- While others write --------------------------------------------------------------------------


def listen(caller: Caller, seed: int) -> tuple[list[str], list[str]]:
    """Read the stream with ever new requests while eight write; return what came and what is."""
    rng = random.Random(seed)
    came: list[str] = []
    scenario = Scenario(lambda: None, seed, page_size=1, relays=1)  # type: ignore[arg-type,return-value]

    def listener(number: int) -> None:
        client = Client()
        client.force_login(caller.user)
        query = {"from": "beginning"}
        done = 0
        while done < 3:
            last_look = not scenario._writing.is_set()
            wait = "0" if rng.random() < 0.5 else "1"
            page = client.get("/api/stream", query | {"wait": wait}).json()
            came.extend(ids(page))
            query = {"cursor": page["cursor"]}
            done = done + (wait == "1") if last_look and not page["results"] else 0

    scenario._relay = listener  # type: ignore[method-assign]
    scenario.run()
    return came, [str(each) for each in Message.objects.values_list("message_id", flat=True)]


@pytest.mark.timeout(120)
def test_nothing_is_skipped_or_told_twice_while_eight_write(
    viewer: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Transactions that commit late, early ids, rollbacks; every page is another request."""
    monkeypatch.setattr(stream, "SIZE", 7)
    seed = random.SystemRandom().randrange(10**6)
    came, there = listen(viewer, seed)

    assert len(there) > 200
    assert sorted(came) == sorted(there), seed


@pytest.mark.mutant
@pytest.mark.timeout(120)
def test_a_stream_by_position_is_caught(viewer: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
    """`id > last` loses what commits late."""
    monkeypatch.setattr(stream, "Follower", ById)
    assert any(set(there) - set(came) for came, there in (listen(viewer, n) for n in range(3)))
