"""What has come and what has gone between two looks of the doctor: pure policy."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from outbox.extensions.diagnosis import Finding, Level

WORTH = (Level.WARNING, Level.ERROR)
LOOKS = 2
"""In how many looks one after the other a finding has to be missing until it counts as gone."""

Name = tuple[str, str]


@dataclass(slots=True)
class _Known:
    finding: Finding
    missed: int = 0


@dataclass(slots=True)
class Watch:
    """Remembers the warnings and errors that are there. The first look raises all of them.

    One that becomes worse is raised again. While something cannot be examined nothing counts as
    gone: nobody knows. Nor does what another finding hides.
    """

    _known: dict[Name, _Known] = field(default_factory=dict)

    def look(self, findings: Iterable[Finding]) -> tuple[list[Finding], list[Finding]]:
        """Return what is new, and what is gone, as it was found last."""
        found = [finding for finding in findings if finding.level in WORTH]
        raised = [each for each in found if self._is_news(each)]
        for each in found:
            self._known[_name(each)] = _Known(each)
        if any(each.id.endswith(".unexamined") for each in found):
            return raised, []
        missing = self._known.keys() - set(map(_name, found))
        missing = {name for name in missing if not any(_hides(each, name) for each in found)}
        return raised, [known.finding for known in map(self._miss, sorted(missing)) if known]

    def _is_news(self, finding: Finding) -> bool:
        known = self._known.get(_name(finding))
        return known is None or WORTH.index(finding.level) > WORTH.index(known.finding.level)

    def _miss(self, name: Name) -> _Known | None:
        """Count a look without a finding; return it if it is gone by now."""
        known = self._known[name]
        known.missed += 1
        if known.missed < LOOKS:
            return None
        return self._known.pop(name)


def _hides(finding: Finding, name: Name) -> bool:
    id_, about = name
    return id_ in finding.hides and finding.about in ("", about)


def _name(finding: Finding) -> Name:
    return finding.id, finding.about or finding.title
