"""The chains of instances on one database: find them, hold them, read and write their steps."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import msgspec

from inbox.handlers.ordering import LineKey
from inbox.ledger.ledger import Ledger
from inbox.ledger.rows import Row
from inbox.processes import sql
from inbox.processes.steps import Kept, Step, kept_of

_kept = msgspec.json.Decoder(Kept)


class InstanceKey(NamedTuple):
    """Which instance of which process."""

    process: str
    key: str

    @property
    def line(self) -> LineKey:
        """What is locked while a step is taken."""
        return LineKey(self.process, "", self.key)


class AliasKey(NamedTuple):
    """Another key of an instance."""

    process: str
    name: str
    value: str


@dataclass(slots=True)
class Instance:
    """An instance in a transaction: its number in the database, and its last step, if any."""

    id: int | None = None
    step: Step | None = None


class Written(NamedTuple):
    """A step that was taken, and what is written beside it."""

    key: InstanceKey
    source_state: str
    step: Step
    method: str
    cause: str
    message_id: str = ""
    source: str = ""
    said: str = "[]"
    by: str = ""
    reason: str = ""


class InstanceTaken(Exception):
    """Somebody else has made an instance that was not there: the transaction begins again."""


class Chain:
    """Reads and writes instances within the caller's transaction."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def aliased(self, keys: Collection[AliasKey]) -> dict[AliasKey, InstanceKey]:
        """Return the instances of those keys that are known."""
        found = self._ledger.many(lambda n: sql.aliased(n, self._ledger.vendor), sorted(set(keys)))
        return {AliasKey(*row[:3]): InstanceKey(row[0], row[3]) for row in found}

    def hold(self, keys: Iterable[InstanceKey]) -> set[InstanceKey]:
        """Hold instances until the commit, waiting for none; return those that are ours."""
        lines = {each.line: each for each in keys}
        return {lines[each] for each in self._ledger.try_lock(lines)}

    def newest(self, keys: Collection[InstanceKey]) -> dict[InstanceKey, Instance]:
        """Return the instances that there are, with their newest steps."""
        rows = self._ledger.many(lambda n: sql.newest(n, self._ledger.vendor), sorted(set(keys)))
        return {InstanceKey(*row[:2]): Instance(row[2], _step(row[3:])) for row in rows}

    def write(self, instances: Mapping[InstanceKey, Instance], steps: Sequence[Written]) -> None:
        """Write steps, and where their instances stand then.

        Raises InstanceTaken if an instance was made by somebody else meanwhile, and a database
        error if the number of a step is taken: nothing of the transaction may stand then.
        """
        if not steps:
            return
        touched = {each.key: instances[each.key] for each in steps}
        self._begin({key: each for key, each in touched.items() if each.id is None})
        rows = [(touched[each.key].id, *_columns(each)) for each in steps]
        self._ledger.many(lambda n: sql.add(n, self._ledger.vendor), rows, reads=False)
        begun = {each.key for each in steps if each.step.number == 1}
        noted = sorted(
            (each.id, step.number, step.state, step.version, step.stuck, step.ended)
            for key, each in touched.items()
            if key not in begun and (step := each.step) is not None
        )
        self._ledger.many(lambda n: sql.note(n, self._ledger.vendor), noted, reads=False)

    def _begin(self, new: Mapping[InstanceKey, Instance]) -> None:
        rows = []
        for key, each in sorted(new.items(), key=lambda item: item[0]):
            step = each.step
            assert step is not None
            rows.append((*key, step.number, step.state, step.version, step.stuck, step.ended))
        for process, key_text, number in self._ledger.many(
            lambda n: sql.begin(n, self._ledger.vendor), rows
        ):
            new[InstanceKey(process, key_text)].id = number
        if taken := [key for key, each in new.items() if each.id is None]:
            raise InstanceTaken(f"{taken[0].process} {taken[0].key} was begun by another process")

    def alias(self, rows: Mapping[AliasKey, int]) -> set[AliasKey]:
        """Add other keys of instances, by their numbers; return those that others have already."""
        wanted = sorted((*key, number) for key, number in rows.items())
        added = {AliasKey(*row) for row in self._ledger.many(sql.alias, wanted)}
        return set(rows) - added

    def wake(self, waiting: Collection[tuple[str, str]]) -> None:
        """Let what waits be due: handlers and keys of instances."""
        rows = sorted(set(waiting))
        self._ledger.many(lambda n: sql.wake(n, self._ledger.vendor), rows, reads=False)


def _step(row: Sequence[Any]) -> Step:
    number, state, version, data, kept, stuck, ended = row
    return Step(
        number=number,
        state=state,
        version=version,
        data=data.encode(),
        stuck=stuck,
        ended=bool(ended),
        **msgspec.structs.asdict(_kept.decode(kept)),
    )


def _columns(written: Written) -> Row:
    step = written.step
    return (
        step.number,
        written.source_state,
        step.state,
        step.version,
        step.data.decode(),
        kept_of(step).decode(),
        written.said,
        written.method,
        written.cause,
        written.message_id,
        written.source,
        written.by,
        written.reason,
    )
