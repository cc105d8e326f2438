"""A topology as text, and as a Mermaid flowchart."""

from collections.abc import Iterator

from outbox.flow.labels import entities, printable
from outbox.flow.topology import Topology, TypeNode, Use


def render(topology: Topology) -> Iterator[str]:
    """Yield lines: each type with who handles it and what it causes, and drift at the end."""
    return map(printable, _lines(topology))


def render_mermaid(topology: Topology) -> Iterator[str]:
    """Yield the lines of a flowchart; what was not seen is dashed."""
    names = {each.name: f"t{number}" for number, each in enumerate(topology.types)}
    yield "flowchart LR"
    for each in topology.types:
        yield f'    {names[each.name]}(["{entities(each.name)}"])'
    groups: dict[str | None, list[Use]] = {}
    handlers: dict[str, str] = {}
    for use in (use for each in topology.types for use in each.uses):
        if use.handler not in handlers:
            handlers[use.handler] = f"h{len(handlers)}"
            groups.setdefault(use.group, []).append(use)
    for number, (group, uses) in enumerate(groups.items()):
        yield f'    subgraph g{number}["{entities("not in the code" if group is None else group)}"]'
        for use in uses:
            yield f'        {handlers[use.handler]}["{entities(use.handler)}"]'
        yield "    end"
    for each in topology.types:
        for use in each.uses:
            arrow = f"-->|{use.count}|" if use.count else "-.->"
            yield f"    {names[each.name]} {arrow} {handlers[use.handler]}"
        for caused, count in each.causes.items():
            yield f"    {names[each.name]} ==>|{count}| {names[caused]}"


def _lines(topology: Topology) -> Iterator[str]:
    yield f"Of the newest {topology.limit:,} events and receipts:"
    for each in topology.types:
        yield _title(each)
        ends = [_use(use) for use in each.uses]
        ends += [f"causes {name}: {count:,}" for name, count in each.causes.items()]
        for number, end in enumerate(ends, 1):
            yield ("└─ " if number == len(ends) else "├─ ") + end
    for title, found in (
        ("Declared and not seen", topology.not_seen),
        ("Seen and not declared", topology.not_declared),
    ):
        if found:
            yield f"{title}: {', '.join(found)}"


def _title(each: TypeNode) -> str:
    words = [each.name]
    if each.emitted:
        words.append(f"{each.emitted:,} emitted here")
    elif not each.seen:
        words.append("not seen")
    if not each.registered:
        words.append("not registered here")
    return "  ".join(words)


def _use(use: Use) -> str:
    where = "not in the code" if use.group is None else use.group
    if use.group is not None and not use.declared:
        where += ", no longer for it"
    failed = f", {use.failed:,} dead" if use.failed else ""
    received = f"{use.count:,} received{failed}" if use.count else "none"
    return f"{use.handler} ({where}): {received}"
