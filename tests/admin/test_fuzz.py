"""Whatever is sent to our admin pages: an answer, and never an error of the server."""

import os
from collections import Counter
from typing import TypeVar
from urllib.parse import quote

import hypothesis
import pytest
from django.apps import apps
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.contrib.auth.models import User
from django.contrib.contenttypes.models import ContentType
from django.db import transaction
from django.db.models import Model
from django.test import Client
from django.urls import reverse
from hypothesis import strategies as st

import outbox
from inbox.models import Binding, DeadLetter, Receipt
from outbox.models import Message, Scheduled
from relay.brokers.base import Status
from relay.log import open_log
from relay.models import Checkpoint, Parked
from relay.transfer import transfer
from tests.inbox.admin.test_tools import reject
from tests.inbox.support import Handling, happened, receive
from tests.kit.admin_pages import list_url
from tests.kit.support import Counted, RecordingBroker

pytestmark = [pytest.mark.sqlite, pytest.mark.django_db(transaction=True)]

EXAMPLES = int(os.environ.get("ADMIN_FUZZ", "250"))
MODELS: list[type[Model]] = [Message, Scheduled, Checkpoint, Parked, Receipt, DeadLetter, Binding]
ON_SELECTED: dict[type[Model], list[str]] = {
    Scheduled: ["cancel_selected"],
    Parked: ["requeue", "discard", "restore"],
    Receipt: ["retry_selected", "discard_selected", "restore_selected"],
    DeadLetter: ["retry_selected", "discard_selected", "restore_selected"],
}
ACTIONS = ["cancel_selected", "requeue", "discard", "retry_selected", "discard_selected"]
ACTIONS += ["restore", "restore_selected", "retry_matching", "discard_matching", "cancel_matching"]
ACTIONS += ["requeue_matching", "restore_matching", "delete_selected"]
PAGES = ["change", "history", "delete", "retry", "discard", "restore", "edit", "add", ""]
PAGES += ["requeue", "cancel"]
PARAMETERS = [
    *("q", "p", "o", "e", "all", "_popup", "_to_field", "_changelist_filters", "_facets"),
    *("state", "type", "age", "relay", "lane", "reason", "handler", "id", "pk", "position"),
    *("next", "confirmed", "of"),
    *("key__in", "time__gte", "message_id", "error__regex", "state__exact", "pk__isnull", "a__b"),
]
FIELDS = ["action", "index", "select_across", ACTION_CHECKBOX_NAME, "_save", "post", "seen"]
FIELDS += ["confirmed", "of"]
TYPES = [
    *("application/x-www-form-urlencoded; charset=utf-16", "text/plain; charset=nothing", ""),
    *("multipart/form-data; boundary=b", "multipart/form-data", "application/json"),
]
HEADERS = [
    *("{}", "[]", "null", '{"a": NaN}', '{"a": 1e999}', '{"a": {"b": [1, null]}}', '{"": ""}'),
    *('{"ce-id": "\\ud800"}', '{"ce-id": null}', '{"ce-id": ["\\u0000"]}', '{"ce-time": 1e308}'),
    *('{"a":' * 500 + "1" + "}" * 500, '{"a":' * 60_000, '{"a": ' + "9" * 4_000 + "}"),
]
NO_IDS = [
    *("", "abc", "\x00", "1\x00", "-1", "1.5", "1e9", "inf", "NaN", "0x10", "1_000", " 1 ", "%"),
    *("\u0661", "\u00b2", "None", "[1]", '{"a": 1}', "'", str(2**63), "9" * 30, "9" * 5000),
]

T = TypeVar("T")
Request = tuple[str, str, str, bytes]
"""Method, address, content type and body."""

wild = st.one_of(
    st.sampled_from(NO_IDS),
    st.sampled_from(["0", "1", "2", str(2**31), str(2**63 - 1), str(-(2**63) - 1)]),
    st.sampled_from(["pending:default", "published:default", "dead", "dead:default", "24"]),
    st.sampled_from(["state:dead", "-state:open", "key:", "age:>1h", "age:<9999999w", "type:a*"]),
    st.sampled_from(
        ['error:"', 'error:"\\"', "id:x", "lane:>9", "state:dead@x", "a:b:c", "due:<1h"]
    ),
    st.sampled_from(["last-hour", "over-day", "before-5", "after-0", f"before-{'9' * 18}"]),
    st.sampled_from(["2026-02-30", "2026-11-01T01:30", "00000000-0000-0000-0000-000000000000"]),
    st.sampled_from(ACTIONS),
    st.sampled_from(["1,2", "1,", ",", "1,a", f"1,{'9' * 19}", "//x", "/admin/", "javascript:x"]),
    st.integers().map(str),
    st.text(max_size=30),
)
many = st.lists(wild, max_size=4) | st.sampled_from([[str(n) for n in range(900)], ["7"] * 1200])
parameters = st.lists(st.tuples(st.sampled_from(PARAMETERS), wild), max_size=3)
fields = st.lists(st.tuples(st.sampled_from(FIELDS), wild), max_size=4)


def mostly(usual: st.SearchStrategy[T], odd: st.SearchStrategy[T]) -> st.SearchStrategy[T]:
    """Return a strategy that is the usual one three times out of four."""
    return st.sampled_from([usual, usual, usual, odd]).flatmap(lambda chosen: chosen)


class Rows(dict[type[Model], int]):
    """The id of a row of every model, and what the forms to edit them hold."""

    forms: dict[type[Model], dict[str, str]]


@st.composite
def requests(draw: st.DrawFn, rows: Rows) -> Request:
    """Return a request that some page of ours might get from a person who means no good."""
    what = draw(st.sampled_from(["list", "act", "act", "row", "edit"]))
    model = draw(st.sampled_from(MODELS))
    form: list[tuple[str, str]] = []
    if what == "list":
        return "GET", f"{list_url(model)}?{encoded(draw(parameters))}", "", b""
    if what == "row":
        number, page = draw(st.just(str(rows[model])) | wild), draw(st.sampled_from(PAGES))
        address = f"{list_url(model)}{quote(number, safe='')}/{page}{'/' if page else ''}"
        if draw(st.booleans()):
            return "GET", f"{address}?{encoded(draw(parameters))}", "", b""
        form = draw(fields)
    elif what == "act":
        model = draw(st.sampled_from(list(ON_SELECTED)))
        address = list_url(model)
        action = draw(mostly(st.sampled_from(ON_SELECTED[model]), st.sampled_from(ACTIONS) | wild))
        chosen = draw(mostly(st.lists(st.just(str(rows[model])) | wild, max_size=3), many))
        form = [("action", action), *((ACTION_CHECKBOX_NAME, each) for each in chosen)]
        form += draw(mostly(st.just([]), fields))
    else:
        model = draw(st.sampled_from(list(rows.forms)))
        address = edit_url(model, rows)
        changed = draw(st.sampled_from(list(rows.forms[model])))
        value = draw(st.sampled_from(HEADERS) | wild)
        form = list((rows.forms[model] | {changed: value}).items())
    address += draw(mostly(st.just(""), parameters.map(lambda found: f"?{encoded(found)}")))
    method = draw(mostly(st.just("POST"), st.sampled_from(["HEAD", "PUT", "DELETE", "OPTIONS"])))
    usual = st.just("application/x-www-form-urlencoded")
    content_type = draw(mostly(usual, st.sampled_from(TYPES) | st.text(max_size=20)))
    body = encoded(form).encode()
    if content_type.startswith("multipart") and draw(st.booleans()):
        body = multipart(form)
    elif draw(st.integers(0, 9)) == 0:
        body = draw(st.binary(max_size=60))
    return method, address, content_type, body


def encoded(form: list[tuple[str, str]]) -> str:
    return "&".join(f"{name}={quote(value, safe='', errors='replace')}" for name, value in form)


def multipart(form: list[tuple[str, str]]) -> bytes:
    parts = [
        f'--b\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
        for name, value in form
    ]
    return ("".join(parts) + "--b--\r\n").encode(errors="replace")


def edit_url(model: type[Model], rows: Rows) -> str:
    return reverse(f"admin:django_inbox_{model._meta.model_name}_edit", args=(rows[model],))


def told(client: Client, address: str, **form: object) -> list[str]:
    """Post a form to a list, say yes, and return the messages that the page shows then."""
    response = client.post(address, form | {"confirmed": "yes"}, follow=True)
    assert response.status_code == 200
    return [str(message) for message in response.context["messages"]]


@pytest.fixture
def rows(handling: Handling) -> Rows:
    """A row of every model, about which something can be done."""
    handling(reject)
    broker = RecordingBroker()
    with transaction.atomic():
        messages = outbox.emit_many(Counted("a", number) for number in range(3))
        outbox.emit("tests.counted", {"key": "b", "number": 1}, delay=600)
    broker.refuse = {each.id: Status.UNROUTABLE for each in messages}
    log = open_log("default", using="default")
    for lane in log.lanes_with_work(4):
        transfer(log, broker, lane, 100)
    receive(happened(1))
    receive(happened(1, type="tests.unknown"))
    Binding.objects.create(group="g", queue="q", exchange="events", topic="tests.#")
    return Rows({model: model._default_manager.earliest("pk").pk for model in MODELS})


@pytest.fixture
def root(client: Client, rows: Rows) -> Client:
    """Somebody with all permissions, who has opened the forms."""
    client.force_login(User.objects.create_superuser("root"))
    ContentType.objects.get_for_models(*apps.get_models())
    rows.forms = {
        model: client.get(edit_url(model, rows)).context["form"].initial
        for model in (Receipt, DeadLetter)
    }
    return client


@pytest.mark.parametrize("model", list(ON_SELECTED))
def test_what_is_no_id_is_not_selected(model: type[Model], root: Client, rows: Rows) -> None:
    """Alone, nothing was selected; beside a real one that alone is acted upon, and once."""
    for action in ON_SELECTED[model]:
        for value in NO_IDS:
            [text] = told(root, list_url(model), action=action, _selected_action=[value])
            assert text.startswith("Items must be selected"), value
    chosen = [*NO_IDS, rows[model], rows[model]]
    found = told(root, list_url(model), action=ON_SELECTED[model][0], _selected_action=chosen)

    assert len(found) == 1, found
    assert "1" in found[0], found


@pytest.mark.parametrize("model", list(ON_SELECTED))
def test_nobody_acts_on_what_no_page_shows(model: type[Model], root: Client) -> None:
    """Django's "select across" would be everything, whatever was searched for."""
    before = list(model._default_manager.order_by("pk").values())
    for action in ON_SELECTED[model]:
        form = {"action": action, "select_across": "1", ACTION_CHECKBOX_NAME: ["0"]}
        assert len(told(root, f"{list_url(model)}?q=nothing", **form)) == 1

    assert list(model._default_manager.order_by("pk").values()) == before


@pytest.mark.timeout(max(120, EXAMPLES))
def test_whatever_is_sent_gets_an_answer(root: Client, rows: Rows) -> None:
    """With all permissions: a page, a redirect, or that it is not found, bad or not allowed."""
    statuses: Counter[int] = Counter()

    @hypothesis.settings(max_examples=EXAMPLES, deadline=None, database=None)
    @hypothesis.given(requests(rows))
    def ask(request: Request) -> None:
        method, address, content_type, body = request
        with transaction.atomic():
            response = root.generic(method, address, body, content_type=content_type)
            transaction.set_rollback(True)
        statuses[response.status_code] += 1
        assert response.status_code in {200, 302, 400, 403, 404, 405}, response.status_code

    ask()
    assert {200, 302, 400} <= statuses.keys(), statuses
