"""Messages are lost behind the broker's back, and rows from the log: all of it must be found."""

import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from kombu import Connection

from tests.kit.processes import ROOT
from tests.proofs.faults import acknowledgements, sides, statements
from tests.proofs.faults.service.vocabulary import ASKED, CHANGED, HOPPED
from tests.proofs.faults.strikes import processes
from tests.proofs.faults.world import FaultError, PromiseBroken, World

TOLD = "outbox.acknowledgement"
_LOST = {CHANGED: 10, TOLD: 2, HOPPED: 3, ASKED: 3}
_NOTICED = (HOPPED, ASKED)
"""Types that nobody acknowledges: statements alone find what is lost of them."""
_FORGOTTEN = 3
_FOUND_SECONDS = 120.0
_BUCKETS = 60


def lose_and_find(world: World) -> None:
    """A stranger takes messages off the queue, and somebody deletes messages from the log.

    What asks to be acknowledged is sent again by itself; of the rest each one is a break. A person
    has repaired what is missing, and accepts what is unknown here.
    """
    before = world.number(acknowledgements.RESENDS)
    lost = take_off(world, _LOST)
    planted = {("missing", each) for kind in _NOTICED for each in lost[kind]}
    planted |= {("unknown", each) for each in _forget(world)}
    world.planted |= planted
    world.await_(lambda: _breaks(world, "open") == planted, f"{planted} are open", _FOUND_SECONDS)
    unknown = sorted(each for kind, each in planted if kind == "unknown")
    _reconcile(world, "--repair")
    _reconcile(world, "--accept", *unknown, "--reason", "the fault suite says so")
    world.await_(lambda: not _breaks(world, "open"), "no break is open", _FOUND_SECONDS)
    if _breaks(world, "repaired") != {each for each in planted if each[0] == "missing"}:
        raise PromiseBroken("not all that was missing is repaired")
    if world.number(acknowledgements.RESENDS) < before + len(lost[CHANGED]):
        raise PromiseBroken("not all that was lost was sent again")


def kill_while_resending(world: World, failpoint: str) -> None:
    """A relay is killed while it sends again what was lost; no other sends anything meanwhile."""
    take_off(world, {CHANGED: 10})
    with processes.standing_still(world.relays):
        processes.kill_at(world, failpoint, passes=1)


def pass_an_hour(world: World) -> None:
    """Nothing fails for as many buckets as an hour has, of a second instead of a minute."""
    first = statements.stated(world)
    world.await_(
        lambda: statements.stated(world) >= first + _BUCKETS * 1000,
        f"{_BUCKETS} buckets are stated",
        2 * _BUCKETS + 60.0,
    )
    last = statements.stated(world)
    world.pause()
    statements.await_agreement(world)
    if false := sides.disagreements(world, ever=True):
        raise PromiseBroken(false)
    in_buckets, in_log = statements.counted(world, first, last)
    if not in_buckets or in_buckets != in_log:
        raise PromiseBroken(f"buckets have {in_buckets} messages, the log {in_log}")
    world.go()


def take_off(world: World, wanted: Mapping[str, int]) -> dict[str, set[str]]:
    """Take messages of some types off the consumers' queue, for good; return their ids by type.

    One more consumer gets its share of all; what it does not want it gives back.
    """
    lost: dict[str, set[str]] = defaultdict(set)

    def take(message: Any) -> None:
        kind = message.headers["ce-type"]
        if len(lost[kind]) < wanted.get(kind, 0):
            lost[kind].add(message.properties["message_id"])
            message.channel.basic_ack(message.delivery_tag)
        else:
            message.channel.basic_reject(message.delivery_tag, requeue=True)

    ends = time.monotonic() + 60
    with Connection(world.node.url) as link:
        channel: Any = link.channel()
        channel.basic_qos(0, 20, False)
        channel.basic_consume(world.group, callback=take)
        while any(len(lost[kind]) < count for kind, count in wanted.items()):
            if time.monotonic() > ends:
                raise FaultError(f"the queue has too few of {dict(wanted)}: {dict(lost)}")
            with suppress(TimeoutError):
                link.drain_events(timeout=1)
    return lost


def _forget(world: World) -> list[str]:
    """Delete messages from the log that are handled, as a restore to an earlier time does."""
    gone: list[str] = []

    def forget() -> bool:
        rows = world.query(
            "DELETE FROM django_outbox_message WHERE message_id IN ("
            "SELECT m.message_id FROM django_outbox_message AS m JOIN django_inbox_receipt AS r "
            "ON r.message_id = m.message_id::text AND r.state = 'processed' "
            "WHERE m.type = %s ORDER BY m.position DESC LIMIT %s) RETURNING message_id::text",
            HOPPED,
            _FORGOTTEN - len(gone),
        )
        gone.extend(message_id for (message_id,) in rows)
        return len(gone) == _FORGOTTEN

    world.await_(forget, f"{_FORGOTTEN} messages are deleted from the log")
    return gone


def _breaks(world: World, state: str) -> set[tuple[str, str]]:
    rows = world.query("SELECT kind, message_id FROM django_outbox_break WHERE state = %s", state)
    return {(kind, message_id) for kind, message_id in rows}


def _reconcile(world: World, *options: str) -> None:
    """Run the command; its end says whether anything is open then, which others find out too."""
    done = subprocess.run(
        [sys.executable, str(ROOT / "manage.py"), "reconcile", *options],
        env=world.environment_of_people,
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    if done.returncode not in (0, 1):
        raise PromiseBroken(f"reconcile {options}: {done.stderr[-1000:]}")
