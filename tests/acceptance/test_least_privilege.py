"""Each kind of process works with the rights that the how-to gives it, and names missing ones."""

import json
import re
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path

import pytest
from amqp.basic_message import Message as AMQPMessage
from django.core.management import CommandError
from django.db import ProgrammingError, connection, transaction
from django.utils import timezone
from kombu import Connection

import outbox
from inbox.delivery import Delivery
from inbox.handlers.registry import Handler, handlers
from inbox.models import DeadLetter, Receipt
from inbox.operator import edit_letter
from inbox.receiving.batch import Batch
from inbox.receiving.retries import Retries
from inbox.retention import prune
from outbox.database.privileges import grant, needs_of
from outbox.exceptions import AccessDenied
from outbox.message.envelope import Envelope
from outbox.models import Message, Scheduled
from outbox.runtime.arguments import check_access, database_errors_explained
from project import database_url as database_urls
from relay.brokers.amqp.broker import AMQPBroker
from relay.brokers.base import CONFIRMED
from relay.models import Parked
from tests.kit.database import execute
from tests.kit.processes import run
from tests.kit.services.rabbitmq import RabbitNode
from tests.relay.brokers.test_amqp_tasks import task
from tests.testapp.events import Happened
from tests.testapp.models import Effect

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.skipif(connection.vendor != "postgresql", reason="SQLite has no users"),
]

PAGE = (Path(__file__).resolve().parents[2] / "docs/how-to/least-privilege.md").read_text()
SQL = re.compile(r"^```sql\n(.*?)^```$", re.MULTILINE | re.DOTALL)
CONSOLE = re.compile(r"^\$ rabbitmqctl (.*)$", re.MULTILINE)
USERS = ("web", "relay", "consumer", "prune", "person")
PROCESSES = {"web": "emit", "relay": "relay", "consumer": "consume", "prune": "prune"}


@pytest.fixture
def names() -> Iterator[dict[str, str]]:
    """The users of the page under names of their own, with the rights that it gives them."""
    run_id = uuid.uuid4().hex[:8]
    names = {user: f"shop_{user}_{run_id}" for user in USERS}
    for block in SQL.findall(PAGE):
        execute(re.sub(r"\bshop_(\w+)\b", lambda found: names[found[1]], block))
    execute(f"GRANT SELECT, INSERT ON testapp_effect TO {names['consumer']}")
    execute(f"GRANT SELECT ON django_content_type TO {names['person']}")
    yield names
    for name in names.values():
        execute(f"DROP OWNED BY {name}")
        execute(f"DROP ROLE {name}")


@dataclass
class Shop:
    """The processes of a service, each as a user of its own on both servers."""

    names: dict[str, str]
    node: RabbitNode
    ran: set[str] = field(default_factory=set)
    exchange: str = field(default_factory=lambda: f"events-{uuid.uuid4().hex[:8]}")
    group: str = field(default_factory=lambda: f"billing-{uuid.uuid4().hex[:8]}")

    def rabbitmqctl(self, line: str) -> None:
        """Run a command of the page, for our users, exchange and queue."""
        assert line in CONSOLE.findall(PAGE)
        self.ran.add(line)
        words = re.findall(r"'([^']*)'|(\S+)", line)
        command, user, *rest = [quoted or bare for quoted, bare in words]
        rest = [
            each.replace("events", self.exchange)
            .replace("billing", self.group)
            .replace("celery", f"celery-{self.group}")
            for each in rest
        ]
        self.node.ctl(command, self.names[user.removeprefix("shop_")], *rest)

    def run(self, user: str, *arguments: str, **environment: str) -> tuple[int, str]:
        name = self.names[user]
        database = {**connection.settings_dict, "USER": name, "PASSWORD": "secret"}
        return run(
            *arguments,
            DATABASE_URL=database_urls.compose(database),
            BROKER_URL=self.node.url.replace("guest:guest", f"{name}:secret"),
            TEST_EXCHANGE=self.exchange,
            TEST_GROUP=self.group,
            TEST_INBOX=json.dumps({"RETRY_ATTEMPTS": 1}),
            TEST_RELAY=json.dumps({"PARK_MIN": 0.01, "PARK_MAX": 0.01, "PRUNE_INTERVAL": 0.1}),
            **environment,
        )

    def must(self, user: str, *arguments: str, **environment: str) -> str:
        code, output = self.run(user, *arguments, **environment)
        assert code == 0, output
        return output

    def emit(self, *numbers: int) -> None:
        lines = [
            "import outbox",
            "from django.db import transaction",
            "from tests.testapp.events import Happened",
            "with transaction.atomic():",
            f"    outbox.emit_many([Happened(str(n), n) for n in {list(numbers)}])",
            "    outbox.emit(Happened('later', 1000), delay=0.01)",
            "    outbox.cancel(outbox.emit(Happened('never', 2000), delay=60).id)",
        ]
        self.must("web", "shell", "-c", "\n".join(lines))

    def handled(self) -> set[int]:
        return set(Effect.objects.values_list("number", flat=True))


@pytest.fixture
def shop(names: dict[str, str], rabbit_node: RabbitNode) -> Iterator[Shop]:
    names = names | {"tasks": f"shop_tasks_{uuid.uuid4().hex[:8]}"}
    shop = Shop(names, rabbit_node)
    for user in ("relay", "consumer", "person", "tasks"):
        shop.rabbitmqctl(f"add_user shop_{user} 'secret'")
    yield shop
    with Connection(rabbit_node.url) as link:
        link.channel().queue_delete(shop.group)
        link.channel().queue_delete(f"celery-{shop.group}")
        link.channel().exchange_delete(shop.exchange)
    for user in ("relay", "consumer", "person", "tasks"):
        rabbit_node.ctl("delete_user", names[user])


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_every_process_works_with_the_rights_of_the_page(shop: Shop) -> None:
    """Emit, publish, consume, prune, doctor, requeue and retry, on both servers."""
    shop.rabbitmqctl("set_permissions shop_relay '^events$' '^events$' '^$'")
    shop.rabbitmqctl("set_permissions shop_consumer '^billing$' '^billing$' '^(billing|events)$'")
    shop.rabbitmqctl("set_permissions shop_person '^$' '^$' '^$'")
    shop.must("relay", "relay", "--until-empty")
    shop.must("consumer", "consume", "--group", shop.group, "--until-empty")
    shop.emit(*range(150))
    shop.must("relay", "relay", "--until-empty")
    shop.must("consumer", "consume", "--group", shop.group, "--until-empty")
    assert shop.handled() == {*range(150), 1000}
    assert not Scheduled.objects.exists()

    # What is there needs no right to declare it.
    shop.rabbitmqctl("set_permissions shop_relay '^$' '^events$' '^$'")
    shop.rabbitmqctl("set_permissions shop_consumer '^$' '^$' '^billing$'")
    shop.emit(200)
    shop.must("relay", "relay", "--until-empty")
    code, output = shop.run(
        "consumer", "consume", "--group", shop.group, "--until-empty", TEST_FAIL="200"
    )
    assert code == 1, output
    assert "may not bind" in output
    assert Receipt.objects.filter(state="dead").count() == 1

    findings = json.loads(shop.run("person", "doctor", "--json")[1])["findings"]
    assert [f for f in findings if f["id"].endswith("unexamined")] == []
    assert {"relay.broker", "inbox.queue", "inbox.receipts"} <= {f["id"] for f in findings}
    shop.run("person", "relay_status")
    shop.must("person", "inbox_retry", "--all", "--wait=0")
    shop.must("consumer", "consume", "--group", shop.group, "--until-empty")
    assert 200 in shop.handled()

    with Connection(shop.node.url) as link:
        link.channel().basic_publish(AMQPMessage(b"no event"), "", shop.group)
    shop.run("consumer", "consume", "--group", shop.group, "--until-empty")
    assert DeadLetter.objects.count() == 1
    shop.run("person", "inbox_retry", "--dead-letters", "--all")

    parked = Message.objects.order_by("-position")[0]
    Parked.objects.create(
        relay="default",
        lane=parked.lane,
        position=parked.position,
        message_id=parked.message_id,
        type=parked.type,
        topic=parked.topic,
        state="dead",
        reason="refused",
        attempts=1,
        parked_at=parked.time,
    )
    shop.must("person", "relay_requeue", "--all")
    shop.must("relay", "relay", "--until-empty")
    assert Parked.objects.get().state == "published"
    # A message whose topic is not allowed is parked.
    shop.rabbitmqctl("set_topic_permissions shop_relay events '^shop[.]' '^$'")
    shop.emit(300)
    code, output = shop.run("relay", "relay", "--until-empty")
    assert code == 1, output
    assert "permission is refused" in output
    assert Parked.objects.filter(reason="refused").exclude(state="published").exists(), output

    # Celery's tasks, whose queue a worker has declared.
    shop.rabbitmqctl("set_permissions shop_tasks '^$' '^(amq[.]default|celery)$' '^$'")
    queue = f"celery-{shop.group}"
    with Connection(shop.node.url) as link:
        link.channel().queue_declare(queue, durable=True, auto_delete=False)
    url = shop.node.url.replace("guest:guest", f"{shop.names['tasks']}:secret")
    broker = AMQPBroker.from_settings(url, {}, using="default")
    broker.messages = "tasks"
    assert broker.publish([task(queue, durable=True)]) == [CONFIRMED]
    broker.close()
    assert shop.ran == set(CONSOLE.findall(PAGE))

    output = shop.must("prune", "outbox_prune", "--older-than", "0s", "--json")
    assert json.loads(output.splitlines()[-1])["rows"]["messages"] > 0


@contextmanager
def acting_as(user: str) -> Iterator[None]:
    execute(f"SET ROLE {user}")
    try:
        yield
    finally:
        execute("RESET ROLE")


def test_ordered_handlers_and_pruning_need_no_more(names: dict[str, str]) -> None:
    """What a consumer does for orders, what it does again, and what it deletes when it is old."""
    seen: list[int] = []
    failing = [True]

    def note(event: Happened, message: Envelope) -> None:
        if failing[0]:
            raise ValueError("no luck")
        seen.append(event.number)

    handlers.add(
        Handler(
            name="tests.ordered",
            pattern="tests.happened",
            function=note,
            declared_group="ordered",
            ordered=True,
            sequence="number",
            sequence_start=0,
        )
    )
    envelopes = [
        Envelope(
            id=str(uuid.uuid4()),
            source="/t",
            type="tests.happened",
            topic="tests.happened",
            key="k",
            data=b'{"key":"k","number":%d}' % number,
        )
        for number in range(4)
    ]
    try:
        with acting_as(names["consumer"]):
            *batch, mended = [Delivery.of(each) for each in envelopes]
            broken = replace(batch[0], headers={}, body=b"no event")
            Batch([*batch, broken], using="default", group="ordered").receive()
            failing[0] = False
            Receipt.objects.filter(state="retrying").update(next_attempt_at=timezone.now())
            for _ in range(5):
                Retries("default", "ordered").turn()
            assert seen == [0, 1, 2]
            letter = DeadLetter.objects.get()
        with acting_as(names["person"]):
            assert edit_letter(letter.pk, mended, by="a person", using="default").changed
        assert seen == [0, 1, 2, 3]
        time.sleep(0.01)
        with acting_as(names["consumer"]):
            assert prune("default", timedelta(microseconds=1)) == 5
    finally:
        handlers.remove("tests.ordered")


@pytest.mark.parametrize(("user", "process"), PROCESSES.items())
def test_the_page_says_what_the_code_says(user: str, process: str) -> None:
    """The GRANTs of a kind of process are those that errors name."""
    granted = re.findall(rf"^(GRANT .*) TO shop_{user};$", PAGE, re.MULTILINE)

    assert [f'{each} TO "x";' for each in granted] == [
        grant(name, rights, "x") for name, rights in needs_of(process).items()
    ]


def test_the_page_says_what_the_code_says_of_people() -> None:
    granted = re.findall(r"^(GRANT .* ON .*) TO shop_person;$", PAGE, re.MULTILINE)

    assert [f'{each} TO "x";' for each in granted] == [
        grant(name, rights, "x") for name, rights in needs_of("person").items()
    ]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("user", "arguments", "revoked"),
    [
        ("relay", ("relay", "--once"), "SELECT ON SEQUENCE django_outbox_message_position_seq"),
        ("relay", ("relay", "--once"), "INSERT ON django_relay_checkpoint"),
        ("relay", ("relay", "--once"), "DELETE ON django_outbox_scheduled"),
        ("person", ("relay_requeue", "--all"), "UPDATE ON django_relay_parked"),
        ("person", ("inbox_retry", "--all"), "SELECT ON django_inbox_receipt"),
        ("prune", ("outbox_prune", "--older-than", "0s"), "DELETE ON django_outbox_message"),
        ("person", ("relay_status",), "SELECT ON django_relay_checkpoint"),
        ("person", ("doctor",), "SELECT ON django_outbox_scheduled"),
        ("person", ("doctor",), "SELECT, UPDATE ON django_relay_parked"),
        ("person", ("doctor",), "SELECT, INSERT, UPDATE ON django_inbox_receipt"),
    ],
)
def test_a_missing_right_is_named_with_the_grant(
    names: dict[str, str], user: str, arguments: tuple[str, ...], revoked: str
) -> None:
    """On tables and sequences, by every command; nobody is asked whether he has migrated."""
    with transaction.atomic():
        message = outbox.emit(Happened("a", 1), delay=0.001)
        outbox.emit(Happened("b", 2))
    row = Message.objects.get()
    if arguments[0] == "relay_requeue":
        Parked.objects.create(
            relay="default",
            lane=row.lane,
            position=row.position,
            message_id=row.message_id,
            type=row.type,
            topic=row.topic,
            state="dead",
            reason="refused",
            attempts=1,
            parked_at=row.time,
        )
    assert message.id
    right, _, target = revoked.partition(" ON ")
    execute(f"REVOKE {right} ON {target} FROM {names[user]}")
    database = {**connection.settings_dict, "USER": names[user], "PASSWORD": "secret"}
    settings = {"BACKEND": "tests.testapp.brokers.FileBroker", "URL": "/dev/null"}

    code, output = run(
        *arguments, DATABASE_URL=database_urls.compose(database), TEST_RELAY=json.dumps(settings)
    )

    assert code != 0
    assert "Traceback" not in output
    found = re.search(rf'GRANT (.*) ON {target} TO "{names[user]}";', output)
    assert found, output
    assert found[1] == ("SELECT" if arguments[0] == "doctor" else right)
    assert "migrate" not in output


def test_a_consumer_names_what_is_missing(names: dict[str, str]) -> None:
    """At its start, all at once."""
    names_of = ("receipt", "deadletter", "keysequence", "binding")
    tables = [f"django_inbox_{each}" for each in names_of]
    for table in tables:
        execute(f"REVOKE INSERT, UPDATE ON {table} FROM {names['consumer']}")
    # By a batch whose time is over, which takes back the receipts of what it leaves.
    execute(f"REVOKE DELETE ON django_inbox_receipt FROM {names['consumer']}")
    with transaction.atomic():
        execute(f"SET LOCAL ROLE {names['consumer']}")
        with pytest.raises(AccessDenied) as caught:
            check_access("default", "consume")
    assert "GRANT INSERT, UPDATE, DELETE ON django_inbox_receipt TO" in str(caught.value)
    for table in tables[1:]:
        assert f"GRANT INSERT, UPDATE ON {table} TO" in str(caught.value)


def test_a_batch_that_leaves_messages_needs_the_right_to_delete(names: dict[str, str]) -> None:
    """It is among those that are asked for at the start: else only a slow batch would show it."""
    handlers.add(
        Handler(
            name="tests.slow",
            pattern="tests.happened",
            function=lambda event, message: None,
            declared_group="slow",
        )
    )
    deliveries = [
        Delivery.of(
            Envelope(
                id=str(uuid.uuid4()),
                source="/t",
                type="tests.happened",
                topic="tests.happened",
                data=b'{"key":"k","number":1}',
            )
        )
        for _ in range(2)
    ]
    try:
        with acting_as(names["consumer"]):
            assert len(Batch(deliveries, using="default", group="slow", seconds=0).receive()) == 1
        execute(f"REVOKE DELETE ON django_inbox_receipt FROM {names['consumer']}")
        with acting_as(names["consumer"]), pytest.raises(AccessDenied, match="GRANT DELETE ON"):
            check_access("default", "consume")
    finally:
        handlers.remove("tests.slow")


@pytest.mark.parametrize("count", [1, 200])
def test_emit_names_what_is_missing(names: dict[str, str], count: int) -> None:
    """In a note on the error, also where it is COPY that is refused."""
    execute(f"REVOKE INSERT ON django_outbox_message FROM {names['web']}")
    with pytest.raises(ProgrammingError, match="permission denied") as caught, transaction.atomic():
        execute(f"SET LOCAL ROLE {names['web']}")
        outbox.emit_many([Happened("a", number) for number in range(count)])

    assert "GRANT INSERT ON django_outbox_message TO" in caught.value.__notes__[0]


def test_a_right_on_a_table_of_somebody_else_is_named_as_well(names: dict[str, str]) -> None:
    """That of a handler, say: which right it needs only its author knows."""
    with (
        pytest.raises(CommandError, match=r"Grant it: what it needs on table testapp_effect, to"),
        transaction.atomic(),
        database_errors_explained("relay"),
    ):
        execute(f"SET LOCAL ROLE {names['relay']}")
        execute("SELECT * FROM testapp_effect")
