"""Open every page of what benchmarks.weeks has made, ROUNDS times: `pages ROUNDS [PART]`.

With PART only what has it in its name. The last line says of each page how many statements it took
and, of each round, how long they took together, seen from here.
"""

import io
import json
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import django

WORDS = {
    "type": ["shop.line0.kind0", "shop.line7.*", "shop.#", "nobody.knows"],
    "key": ["hot", "4242", "nobody"],
    "id": [],  # of a row
    "correlation": [],  # of a row
    "age": ["<1h", "<1d", ">1min", ">1d", ">7w"],
    "error": ["refuses", "of nobody"],
    "source": ["/bench", "/nobody"],
    "lane": ["1", "9"],
    "position": [">1000", "<1000", "5000000"],
    "attempts": [">2", ">90"],
    "count": [">100", ">100000"],
    "by": ["relay-1", "nobody"],
    "due": ["<1h", ">1d", "<1min"],
}
"""What is looked for, beside what a qualifier knows itself."""
AGAIN, MORE = 15, 8
"""How many pages, the slowest, are opened so many times more: others disturb most of all."""
TOGETHER = {
    "message": [
        "type:shop.line0.kind0 state:pending",
        "type:shop.line7.* age:<1d",
        "type:nobody.knows age:>1w",
        "key:hot type:shop.line7.kind7",
        "correlation:{big} type:shop.line7.kind7",
        "type:shop.line0.kind0 receipt:dead age:>1d",
        "hot state:pending",
        "{big}",
        "-type:shop.#",
    ],
    "receipt": [
        "state:dead handler:group0.line0 age:<1d",
        "state:dead error:refuses",
        "state:open type:nobody.knows",
        "state:processed handler:group1.line7 attempts:>1",
        "state:processed type:nobody.knows",
        "-state:processed handler:group1.line7",
        "correlation:{big} state:dead",
        "{big}",
        "-handler:#",
    ],
    "parked": ["state:open key:hot", "state:dead type:shop.#", "reason:held age:>1h", "hot"],
    "deadletter": ["state:dead reason:unknown_type type:other.#", "state:open error:nobody"],
    "scheduled": ["type:shop.line0.kind0 due:<1d", "key:hot"],
    "checkpoint": ["relay:audit lane:1", "relay:nobody", "count:>100000 by:nobody"],
}
"""Filters of several terms, by model."""


@dataclass
class Opened:
    """What one page took, in each round."""

    group: str
    name: str
    open: Callable[[], object]
    statements: int = 0
    seconds: list[float] = field(default_factory=list)
    processor: list[float] = field(default_factory=list)
    """Seconds that the database's process was at work, which others on the machine do not change;
    0 where it cannot be told."""
    blocks: list[int] = field(default_factory=list)
    slowest: str = ""
    """The statement that took longest, in the last round."""
    status: int = 200


class Watch:
    """Measures the statements of a connection. Use as what Django calls an execute wrapper."""

    def __init__(self) -> None:
        self.taken: list[tuple[float, str]] = []

    def __call__(self, execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        started = time.perf_counter()
        try:
            return execute(sql, params, many, context)
        finally:
            self.taken.append((time.perf_counter() - started, sql))


def pages(client: "Client") -> Iterator[Opened]:
    """Yield everything that can be opened."""

    def get(url: str, **query: str) -> Callable[[], object]:
        return partial(client.get, url, query)

    root = reverse("admin:django_outbox_messaging_changelist")
    yield Opened("admin", "the admin's index", get(reverse("admin:index")))
    for page in registered_pages():
        yield Opened(f"page: {page.title}", str(page.title), get(f"{root}{page.name}/"))
        for section in sections(page.name):
            url = f"{root}{page.name}/"
            name = f"{page.title}, {section.name}"
            yield Opened(f"page: {page.title}", name, get(url, section=section.name))
    yield from of_flow(get, root)
    yield from of_failures(get, root)
    yield from lists(get)
    yield from of_the_api(get)
    yield from commands()
    for name in ("metrics", "healthz", "readyz"):
        yield Opened("metrics and probes", f"/{name}", get(f"/{name}"))


def of_flow(get: Callable[..., Callable[[], object]], root: str) -> Iterator[Opened]:
    for what, of in (
        ("a conversation of 5", some(Message).correlation_id),
        (f"a conversation of {weeks.CONVERSATION:,}", weeks.BIG),
        ("a message of it", str(Message.objects.filter(correlation_id=weeks.BIG)[9].message_id)),
        ("a key", "4242"),
        ("a busy key", weeks.HOT),
        ("nothing", "nobody"),
    ):
        yield Opened("page: Flow", f"Flow, {what}", get(f"{root}flow/", of=of))
        yield Opened(
            "page: Flow", f"Flow, {what}, by key", get(f"{root}flow/", of=of, **{"as": "key"})
        )


def of_failures(get: Callable[..., Callable[[], object]], root: str) -> Iterator[Opened]:
    for source in sources():
        found = find(source, source.database())
        for group in list(found.groups)[:2]:
            url = f"{root}failures/{source.name}/{group.fingerprint}/"
            name = f"Failures, a group of {source.name}"
            yield Opened("page: Failures", name, get(url))


def lists(get: Callable[..., Callable[[], object]]) -> Iterator[Opened]:
    """Yield the lists of the admin, with each filter, and the page of one row."""
    for model in models():
        meta = model._meta
        group = f"list: {meta.verbose_name_plural}"
        url = reverse(f"admin:{meta.app_label}_{meta.model_name}_changelist")
        yield Opened(group, f"{group}, newest", get(url))
        if (newest := model._default_manager.order_by("-pk").first()) is None:
            continue
        for place in (f"before-{newest.pk // 2}", f"after-{newest.pk // 2}", "before-30"):
            yield Opened(group, f"{group}, {place}", get(url, p=place))
        for text in filters(model):
            yield Opened(group, f"{group}, {text}", get(url, q=text))
        for text in scans(model):
            old = f"before-{newest.pk // 2}"
            yield Opened(group, f"{group}, {text}, {old}", get(url, q=text, p=old))
        row = some(model)
        one = reverse(f"admin:{meta.app_label}_{meta.model_name}_change", args=[row.pk])
        yield Opened("details", f"a row of {meta.verbose_name_plural}", get(one))
    for state in ("dead", "retrying", "waiting"):
        if row := Receipt.objects.filter(state=state).order_by("-pk").first():
            one = reverse("admin:django_inbox_receipt_change", args=[row.pk])
            yield Opened("details", f"a receipt that is {state}", get(one))
    for name, at in (("the newest", -1), ("pending", -1000), ("an old", 7)):
        rows = Message.objects.order_by("-pk" if at < 0 else "pk")
        one = reverse("admin:django_outbox_message_change", args=[rows[abs(at) - 1].pk])
        yield Opened("details", f"{name} message", get(one))


def of_the_api(get: Callable[..., Callable[[], object]]) -> Iterator[Opened]:
    """Yield the lists of the API, with each filter, and one of each."""
    for prefix, view, _ in router.registry:
        group, url = "API", f"/api/{prefix}"
        if hasattr(view, "list"):
            yield Opened(group, f"API: {prefix}", get(url))
        model = getattr(view, "model", None)
        if model is None or model not in models():
            continue
        for text in filters(model):
            yield Opened(group, f"API: {prefix}, {text}", get(url, q=text))
        row = some(model)
        name = row.message_id if prefix in ("messages", "scheduled") else row.pk
        yield Opened(group, f"API: one of {prefix}", get(f"{url}/{name}"))
    for name in (weeks.BIG, some(Message).correlation_id):
        yield Opened("API", f"API: conversation {name}", get(f"/api/conversations/{name}"))


def commands() -> Iterator[Opened]:
    def run(*arguments: str) -> Callable[[], object]:
        def called() -> None:
            with suppress(SystemExit, CommandError), redirect_stdout(io.StringIO()):
                call_command(*arguments, stdout=io.StringIO(), stderr=io.StringIO())

        return called

    for each in (
        ("doctor",),
        ("failures",),
        ("flow", "show", weeks.BIG),
        ("flow", "show", some(Message).correlation_id),
        ("flow", "topology"),
        ("relay_status",),
    ):
        yield Opened("commands", f"manage.py {' '.join(each)}", run(*each))


def filters(model: "type[Model]") -> Iterator[str]:
    """Yield filters of one qualifier with each kind of value, and of several."""
    row = some(model)
    of_row = {
        "id": str(getattr(row, "message_id", "")),
        "correlation": getattr(row, "correlation_id", None) or "",
    }
    for each in declared(model).qualifiers.values():
        if each.refused:
            continue
        values = [*WORDS.get(each.name, []), *list(each.known())[:6]]
        values += [of_row[each.name]] if of_row.get(each.name) else []
        values += [weeks.BIG] if each.name == "correlation" else []
        for value in dict.fromkeys(values or [each.example]):
            yield f"{each.name}:{value}"
    for text in TOGETHER.get(str(model._meta.model_name), []):
        yield text.format(big=weeks.BIG)


def scans(model: "type[Model]") -> Iterator[str]:
    """Yield filters that no index finds and nothing matches, the hardest of all."""
    names = declared(model).qualifiers.keys() & {"type", "error", "source", "handler"}
    yield from (f"{name}:nobody.knows" for name in sorted(names))


def some(model: "type[Model]") -> Any:
    """Return a row that is neither old nor new."""
    rows = model._default_manager.order_by("pk")
    newest = rows.last()
    assert newest is not None, model
    return rows.filter(pk__gte=newest.pk // 2 + 11_111).first() or newest


def measure(opened: Opened) -> None:
    watch = Watch()
    before, at_work = blocks(), processor()
    with connection.execute_wrapper(watch):
        answer = opened.open()
    opened.processor.append(processor() - at_work)
    opened.blocks.append(blocks() - before)
    opened.status = getattr(answer, "status_code", 200)
    opened.statements = len(watch.taken)
    opened.seconds.append(sum(taken for taken, _ in watch.taken))
    opened.slowest = "{:.3f} s: {}".format(*max(watch.taken, default=(0.0, "")))
    again = Counter(sql for _, sql in watch.taken).most_common(1)
    if again and again[0][1] > 9:
        opened.slowest += f"\n  {again[0][1]} times: {again[0][0]}"


def blocks() -> int:
    """Return how many blocks this database has read so far, from its buffers or from elsewhere."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_stat_force_next_flush()")
        cursor.execute(
            "SELECT blks_hit + blks_read FROM pg_stat_database WHERE datname = current_database()"
        )
        return int(cursor.fetchone()[0])


def processor() -> float:
    """Return how long the process of our connection was at work so far; 0 on another machine."""
    pid = connection.connection.info.backend_pid
    try:
        return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) / 1e9
    except OSError:
        return 0.0


def staff() -> "Client":
    """Return the client of somebody who may do everything, and has done a lot."""
    user, _ = User.objects.get_or_create(username="bench", is_staff=True, is_superuser=True)
    client = Client(raise_request_exception=True)
    client.force_login(user)
    if not LogEntry.objects.exists():
        kinds = ContentType.objects.get_for_models(Parked, Receipt)
        for model, kind in kinds.items():
            LogEntry.objects.bulk_create(
                LogEntry(
                    user=user,
                    content_type=kind,
                    object_id=str(number),
                    object_repr=str(model._meta.verbose_name),
                    action_flag=2,
                    change_message=f"Retried, run {number // 40}.",
                )
                for number in range(10_000)
            )
    return client


def main(rounds: int, part: str) -> None:
    logged_in = staff()
    found = [each for each in pages(logged_in) if part in each.name]
    for _ in range(rounds):
        for each in found:
            measure(each)
    for each in sorted(found, key=lambda each: min(each.seconds))[-AGAIN:]:
        for _ in range(MORE):
            measure(each)
    shown = (
        {
            "group": each.group,
            "name": each.name,
            "statements": each.statements,
            "seconds": each.seconds,
            "processor": each.processor,
            "blocks": each.blocks,
            "slowest": each.slowest,
            "status": each.status,
        }
        for each in found
    )
    print(json.dumps({"pages": list(shown)}))


if __name__ == "__main__":
    django.setup()

    from django.contrib.admin.models import LogEntry
    from django.contrib.auth.models import User
    from django.contrib.contenttypes.models import ContentType
    from django.core.management import CommandError, call_command
    from django.db import connection
    from django.db.models import Model
    from django.test import Client
    from django.urls import reverse

    from benchmarks import weeks
    from benchmarks.service.lines import declare
    from inbox.models import Receipt
    from outbox.api.urls import router
    from outbox.extensions.failures import sources
    from outbox.extensions.pages import pages as registered_pages
    from outbox.extensions.pages import sections
    from outbox.failures.grouping import find
    from outbox.filtering.qualifiers import declared, models
    from outbox.models import Message
    from relay.models import Parked

    declare()
    main(int(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else "")
