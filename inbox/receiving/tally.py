"""What became of messages, in numbers."""

from dataclasses import dataclass, field

from inbox.ledger.rows import Settlement
from inbox.states import State


@dataclass(slots=True)
class Tally:
    """What became of messages, counted in handler calls; the inbox has them in its care.

    `dead` counts what needs a person, `letters` what of that no handler could use. `failures` says
    why, by handler, of those that failed, whatever follows from it.
    """

    handled: int = 0
    duplicates: int = 0
    retrying: int = 0
    waiting: int = 0
    skipped: int = 0
    dead: int = 0
    letters: int = 0
    failures: dict[str, str] = field(default_factory=dict)

    @property
    def settled(self) -> int:
        """Calls that were made, or that no call is needed for any more."""
        return self.handled + self.retrying + self.skipped + self.dead

    def count(self, settlement: Settlement) -> None:
        """Count what became of one message with one handler."""
        state = settlement.state
        self.handled += state is State.PROCESSED
        self.retrying += state is State.RETRYING
        self.waiting += state is State.WAITING
        self.skipped += state is State.SKIPPED
        self.dead += state is State.DEAD
        if settlement.error and state in (State.RETRYING, State.DEAD):
            self.failures[settlement.handler.name] = settlement.error

    def bury(self) -> None:
        """Count a message that no handler could use."""
        self.dead += 1
        self.letters += 1

    def add(self, other: "Tally") -> None:
        """Count what another one has counted as well."""
        self.handled += other.handled
        self.duplicates += other.duplicates
        self.retrying += other.retrying
        self.waiting += other.waiting
        self.skipped += other.skipped
        self.dead += other.dead
        self.letters += other.letters
        self.failures |= other.failures
