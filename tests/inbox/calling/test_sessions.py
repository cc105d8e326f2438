"""Nothing that a handler sets in its session reaches its neighbours, receipts or the next batch."""

import contextvars
import os
from collections.abc import Callable, Iterator
from io import StringIO
from typing import Any

import django
import pytest
from django.core.cache import caches
from django.core.management import call_command
from django.db import connection, connections, transaction
from django.test import override_settings
from django.test.utils import CaptureQueriesContext
from django.utils import timezone, translation
from psycopg import sql

from inbox import RetryPolicy
from inbox.calling import sessions
from inbox.models import DeadLetter, Receipt
from outbox.message.envelope import Envelope
from tests.inbox.support import (
    Handling,
    effects,
    happened,
    make_due,
    postgresql,
    receive,
    record,
    states,
    turn,
)
from tests.testapp.events import Happened
from tests.testapp.models import Effect

if django.VERSION >= (6, 0):
    from django.tasks import TaskResultStatus as Status
    from django.tasks import task
else:
    from django_tasks import TaskResultStatus as Status
    from django_tasks import task

pytestmark = [
    pytest.mark.usefixtures("_second_alias"),
    pytest.mark.django_db(transaction=True, databases=["default", "second"]),
    postgresql,
]

# Roles are those of all databases of the server, and so of other processes of the tests.
TENANT, ROLE = "tenant_a", f"inbox_lowly_{os.getpid()}"
TABLES = ("django_inbox_receipt", "django_inbox_deadletter", "django_inbox_keysequence")


@pytest.fixture(autouse=True)
def tenant() -> Iterator[str]:
    """A schema with an effect's table, and a trap: tables of the inbox that nobody shall use."""
    run(f"DROP SCHEMA IF EXISTS {TENANT} CASCADE")
    run(f"CREATE SCHEMA {TENANT}")
    for table in (*TABLES, "testapp_effect"):
        run(f"CREATE TABLE {TENANT}.{table} (LIKE public.{table} INCLUDING ALL)")
    run(f"DO $$ BEGIN CREATE ROLE {ROLE}; EXCEPTION WHEN duplicate_object THEN END $$")
    run(
        f"CREATE FUNCTION {TENANT}.enter() RETURNS void LANGUAGE plpgsql AS "
        f"$$ BEGIN PERFORM set_config('search_path', '{TENANT}', true); END $$"
    )
    run(
        f"CREATE FUNCTION {TENANT}.become() RETURNS void LANGUAGE plpgsql AS "
        f"$$ BEGIN PERFORM set_config('role', '{ROLE}', false); END $$"
    )
    yield TENANT
    for table in TABLES:
        assert not query(f"SELECT 1 FROM {TENANT}.{table}"), table
    run(f"DROP SCHEMA {TENANT} CASCADE")
    run(f"DROP ROLE {ROLE}")
    connection.close()


def run(statement: Any, params: Any = None) -> None:
    with connection.cursor() as cursor:
        cursor.execute(statement, params)


def query(statement: str) -> list[Any]:
    with connection.cursor() as cursor:
        cursor.execute(statement)
        return list(cursor.fetchall())


def session() -> dict[str, Any]:
    """All that can be seen of the session: each setting, and who it is."""
    found: dict[str, Any] = dict(query("SELECT name, setting FROM pg_settings"))
    found["tenant"] = query("SELECT current_setting('app.tenant', true)")[0][0] or ""
    found["users"] = query("SELECT current_user, session_user")
    found["left"] = query(
        "SELECT name FROM pg_prepared_statements "
        "UNION SELECT name FROM pg_cursors WHERE is_holdable "
        "UNION SELECT pg_listening_channels() UNION SELECT relname FROM pg_class "
        "WHERE relpersistence = 't' AND relkind = 'r' UNION SELECT objid::text FROM pg_locks "
        "WHERE locktype = 'advisory' AND pid = pg_backend_pid()"
    )
    for name in ("transaction_read_only", "transaction_isolation", "transaction_deferrable"):
        found.pop(name)
    return found


def by_the_driver() -> None:
    connection.connection.execute(f"SET search_path = {TENANT}")


def by_callproc() -> None:
    with connection.cursor() as cursor:
        cursor.callproc("set_config", ["search_path", TENANT, False])


STATEMENTS: dict[str, tuple[Any, Any]] = {
    name: each if isinstance(each, tuple) else (each, None)
    for name, each in {
        "search_path": f"SET search_path TO {TENANT}",
        "lower": f"set search_path = {TENANT}",
        "local": f"SET LOCAL search_path TO {TENANT}",
        "session": f"SET SESSION search_path TO {TENANT}",
        "schema": f"SET SCHEMA '{TENANT}'",
        "comment": f"/* to a tenant */ -- really\n SET search_path TO {TENANT}",
        "second": f"SELECT 1; SET search_path TO {TENANT}",
        "bytes": f"SET search_path TO {TENANT}".encode(),
        "composed": sql.SQL("SET LOCAL search_path TO {}").format(sql.Identifier(TENANT)),
        "set_config": f"SELECT set_config('search_path', '{TENANT}', true)",
        "set_config of values": ("SELECT set_config(%s, %s, false)", ["search_path", TENANT]),
        "set_config of names": (
            "SELECT set_config(%(name)s, %(value)s, true)",
            {"name": "app.tenant", "value": "a"},
        ),
        "block": f"DO $$ BEGIN SET LOCAL search_path = {TENANT}; END $$",
        "own setting": "SET app.tenant = 'a'",
        "own local setting": "SET LOCAL app.tenant = 'a'",
        "role": f"SET ROLE {ROLE}",
        "local role": f"SET LOCAL ROLE {ROLE}",
        "authorization": f"SET SESSION AUTHORIZATION {ROLE}",
        "time zone": "SET TIME ZONE 'Asia/Kathmandu'",
        "time zone as setting": "SET timezone = 'Asia/Kathmandu'",
        "statement_timeout": "SET statement_timeout = 12345",
        "lock_timeout": "SET LOCAL lock_timeout = 12345",
        "any other": "SET work_mem = 12345",
        "any other locally": "SELECT set_config('enable_seqscan', 'off', true)",
        "characteristics": "SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY",
        "read only": "SET TRANSACTION READ ONLY",
        "reset": "RESET TIME ZONE",
        "reset all": "RESET ALL",
        "function": f"SELECT {TENANT}.enter()",
        "function of roles": f"SELECT {TENANT}.become()",
        "driver": (by_the_driver, None),
        "callproc": (by_callproc, None),
        "temporary table": "CREATE TEMP TABLE work (a int)",
        "temporary table until the commit": "CREATE TEMPORARY TABLE work (a int) ON COMMIT DROP",
        "temporary table of a query": "SELECT 1 AS a INTO TEMP work",
        "listen": "LISTEN something",
        "prepare": "PREPARE work AS SELECT 1",
        "prepare with a name": 'PREPARE "Work of mine" (int) AS SELECT $1',
        "cursor": "DECLARE work CURSOR WITH HOLD FOR SELECT 1",
        "advisory lock": "SELECT pg_advisory_lock(4711)",
        "advisory lock, if free": "SELECT pg_try_advisory_lock_shared(4711)",
    }.items()
}


def execute(name: str) -> None:
    statement, params = STATEMENTS[name]
    if callable(statement):
        statement()
    else:
        run(statement, params)


@pytest.mark.parametrize("fails", [False, True], ids=["works", "fails"])
def test_nothing_that_a_statement_leaves_is_found_by_others(
    handling: Handling, fails: bool
) -> None:
    """By the neighbours before and after it, nor by the next batch; whether it fails or not."""
    doing = ""
    before = session()

    def leave(event: Happened, message: Envelope) -> None:
        execute(doing)
        if fails:
            raise ValueError("no luck")

    found: dict[str, dict[str, Any]] = {}

    def look(event: Happened, message: Envelope) -> None:
        found[message.id] = session()  # that of the last time: a batch may be done again

    handling(leave, name="leave")
    handling(look, name="look")

    for doing in STATEMENTS:
        found.clear()
        result, again = receive(happened(1), happened(2))
        assert (result.handled, again.handled) == ((1, 1) if fails else (2, 2)), doing
        found["next"] = session()
        for each in found.values():
            changed = {name: value for name, value in each.items() if before[name] != value}
            assert not changed, doing
    assert {each.state for each in Receipt.objects.filter(handler="look")} == {"processed"}


SWITCHES = ("search_path", "local", "composed", "set_config of values", "function", "driver")


@pytest.mark.parametrize("how", SWITCHES)
def test_effects_land_where_a_handler_wants_them_and_receipts_where_they_belong(
    handling: Handling, how: str
) -> None:
    """Also of what fails, is due again, keeps an order, and of what no handler can use."""
    failing = {2}

    def switch(event: Happened, message: Envelope) -> None:
        execute(how)
        record(event, message, "tenant")
        if event.number in failing:
            failing.discard(event.number)
            raise ValueError("no luck")

    handling(switch, name="tenant", ordered=True)
    handling(name="record")
    one, two, three = (happened(number) for number in (1, 2, 3))

    receive(one, two, three, happened(4, type="tests.unknown"))
    make_due()
    while turn(seconds=60.0).settled:
        make_due()

    found = query(f"SELECT number FROM {TENANT}.testapp_effect ORDER BY id")
    assert found == [(1,), (2,), (3,)]
    assert effects() == [1, 2, 3]
    assert Receipt.objects.count() == 6
    assert set(states()) == {"processed"}
    assert DeadLetter.objects.count() == 1


def test_a_switch_that_nothing_shows_costs_one_batch_twice(handling: Handling) -> None:
    """From then on the session is looked at, and each effect is there once all the same."""
    calls: list[int] = []

    def switch(event: Happened, message: Envelope) -> None:
        calls.append(event.number)
        execute("function")

    handling(switch, name="switch")
    handling(name="record")

    receive(happened(1), happened(2))
    assert calls == [1, 2, 1, 2]
    receive(happened(3))
    assert calls == [1, 2, 1, 2, 3]
    assert effects() == [1, 2, 3]


def test_a_switch_within_a_callers_transaction(handling: Handling) -> None:
    """As with the local broker: the caller's settings are those that come back."""
    handling(lambda event, message: execute("function"), name="switch")
    handling(name="record")

    with transaction.atomic():
        run(f"SET LOCAL search_path = public, {TENANT}")
        receive(happened(1), happened(2))
        assert query("SHOW search_path") == [(f"public, {TENANT}",)]
    assert effects() == [1, 2]


def test_a_handler_that_commits_leaves_its_settings_to_nobody(handling: Handling) -> None:
    """Its receipts and the next transaction are where they were."""

    def commit(event: Happened, message: Envelope) -> None:
        execute("search_path")
        connection.connection.execute("COMMIT")

    handling(commit, name="commit")
    handling(name="record")

    receive(happened(1), happened(2))

    assert effects() == [1, 2]
    assert query("SHOW search_path") == [('"$user", public',)]


def test_a_commit_hook_leaves_nothing(handling: Handling) -> None:
    """It runs when all is committed, and others after it."""
    found: list[Any] = []

    def hooked(event: Happened, message: Envelope) -> None:
        for name in ("search_path", "role", "advisory lock", "own setting"):
            transaction.on_commit(lambda name=name: execute(name))
            transaction.on_commit(lambda: found.append(session()))

    before = session()
    handling(hooked)
    receive(happened(1))

    assert [each == before for each in found] == [True] * 4
    assert session() == before


# --- What it costs --------------------------------------------------------------------------------


def messages_sent(work: Callable[[], object], tmp_path: Any) -> int:
    """Count what is sent to the server to be run, past whatever Django counts."""
    connection.ensure_connection()
    with (tmp_path / "trace").open("w+b") as file:
        connection.connection.pgconn.trace(file.fileno())
        try:
            work()
        finally:
            connection.connection.pgconn.untrace()
        file.seek(0)
        lines = [line.split(b"\t") for line in file.read().splitlines()]
    kinds = [line[3].strip() for line in lines if len(line) > 3 and line[1].strip() == b"F"]
    return kinds.count(b"Query") + kinds.count(b"Execute")


def test_the_usual_handler_costs_no_statement_more(handling: Handling, tmp_path: Any) -> None:
    """For each message one for its savepoint, and its own; for a batch five."""
    handling()

    for count in (1, 10, 20):
        batch = [happened(number) for number in range(count)]
        sent = messages_sent(lambda batch=batch: receive(*batch), tmp_path)
        # BEGIN, claim, last release, constraints, COMMIT.
        assert sent == 2 * count + 5


def test_a_handler_that_switches_costs_two_more(handling: Handling, tmp_path: Any) -> None:
    """One looks before it switches, one sets back."""
    handling(lambda event, message: execute("search_path"))
    batch = [happened(number) for number in range(10)]

    assert messages_sent(lambda: receive(*batch), tmp_path) == 4 * 10 + 5


# --- Tasks ----------------------------------------------------------------------------------


@task
def switching(how: str) -> str:
    """Leave an effect where the statement leads to."""
    execute(how)
    Effect.objects.create(key="", number=1, message_id="", handler="task")
    return how


def test_a_task_may_switch(tenant: str) -> None:
    """Its effects are where it wants them, its result is found, and it runs once."""
    with override_settings(TASKS={"default": {"BACKEND": "inbox.tasks.OutboxBackend"}}):
        for count, how in enumerate(SWITCHES, 1):
            result = switching.enqueue(how)
            call_command("relay", "--until-empty", stdout=StringIO())
            result.refresh()
            assert (result.status, result.return_value) == (Status.SUCCESSFUL, how)
            assert len(query(f"SELECT 1 FROM {tenant}.testapp_effect")) == count
            connection.close()  # each finds a session of which nothing is known
    assert not effects()


# --- Of the process -----------------------------------------------------------------------------

variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")


def test_nothing_of_the_context_is_found_by_others(handling: Handling) -> None:
    """Time zone, language, context variables and wrappers of statements."""

    def look() -> tuple[Any, ...]:
        return (
            timezone.get_current_timezone_name(),
            translation.get_language(),
            variable.get(),
            len(connection.execute_wrappers),
        )

    def leave(event: Happened, message: Envelope) -> None:
        timezone.activate("Asia/Kathmandu")
        translation.activate("de")
        variable.set("set")
        connection.execute_wrappers.append(lambda run, *args: run(*args))
        if event.number == 2:
            raise ValueError("no luck")

    found: list[Any] = []
    handling(leave, name="leave")
    handling(lambda event, message: found.append(look()), name="look")
    usual = look()

    receive(happened(1), happened(2), happened(3))

    assert {each[:3] for each in found} == {usual[:3]}
    assert len({each[3] for each in found}) == 1
    assert look() == usual


def test_caches_are_those_of_the_process(handling: Handling) -> None:
    """A call does not connect to them anew, though Django keeps them in the context."""
    found: list[Any] = []
    with override_settings(
        CACHES={
            "default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"},
            "broken": {"BACKEND": "no.such.thing"},
        }
    ):
        handling(lambda event, message: found.append(caches["default"]))
        receive(happened(1), happened(2))
        receive(happened(3))
        assert {id(each) for each in found} == {id(caches["default"])}


# --- Other databases -----------------------------------------------------------------------------


def test_sessions_of_other_databases_are_as_before(handling: Handling) -> None:
    """One that was open, and one that the handler opens; also where it fails."""
    found: list[Any] = []

    def path() -> str:
        with connections["second"].cursor() as cursor:
            cursor.execute("SHOW search_path")
            return str(cursor.fetchone()[0])

    def switch(event: Happened, message: Envelope) -> None:
        with connections["second"].cursor() as cursor:
            cursor.execute(f"SET search_path = {TENANT}")
        found.append(path())
        if event.number == 2:
            raise ValueError("no luck")

    handling(switch, name="switch")
    handling(lambda event, message: found.append(path()), name="look")
    connections["second"].close()

    receive(happened(1), happened(2), happened(3))

    usual = '"$user", public'
    assert found == [TENANT, usual] * 3
    assert path() == usual
    connections["second"].close()


# --- django-tenants ----------------------------------------------------------------------------


@pytest.fixture(params=[False, True], ids=["each cursor", "limited"])
def django_tenants(request: pytest.FixtureRequest) -> Iterator[None]:
    """The default connection as django-tenants makes it."""
    from django_tenants.postgresql_backend.base import (  # noqa: PLC0415 - reads settings
        DatabaseWrapper,
    )

    usual = connections["default"]
    with override_settings(TENANT_LIMIT_SET_CALLS=request.param):
        connections["default"] = DatabaseWrapper(dict(usual.settings_dict), "default")
        yield
        connections["default"].close()
    connections["default"] = usual


@pytest.mark.usefixtures("django_tenants")
def test_django_tenants_switches_as_it_does_in_a_request(handling: Handling) -> None:
    """By its context managers, or for good; effects in the tenant, receipts where they belong."""
    from django_tenants.utils import schema_context  # noqa: PLC0415 - reads settings

    failing = {2}

    def inside(event: Happened, message: Envelope) -> None:
        with schema_context(TENANT):
            record(event, message)
        if event.number in failing:
            failing.clear()
            raise ValueError("no luck")

    def for_good(event: Happened, message: Envelope) -> None:
        connection.set_schema(TENANT)  # type: ignore[attr-defined]
        record(event, message)
        if event.number == 3:
            raise ValueError("no luck")

    handling(inside, name="inside")
    handling(for_good, name="for good", retry=RetryPolicy(attempts=1))
    handling(name="record")

    receive(happened(1), happened(2), happened(3))
    make_due()
    turn(seconds=60.0)

    assert connection.schema_name == "public"  # type: ignore[attr-defined]
    assert connection.settings_dict["SCHEMA"] == "public"
    assert effects() == [1, 2, 3]
    assert len(query(f"SELECT 1 FROM {TENANT}.testapp_effect")) == 5
    assert sorted(states()) == ["dead", *["processed"] * 8]


def test_a_statement_that_sets_nothing_is_not_looked_at_twice() -> None:
    """Most statements are told by how they begin."""
    noted = sessions.Session(connection)
    with CaptureQueriesContext(connection) as queries:
        for text in (
            'SELECT "t"."attempts" FROM "t" WHERE "t"."x" = %s',
            'UPDATE "t" SET "search_path" = %s',
            "INSERT INTO t (a) VALUES ('SET ROLE x')",
            "ALTER TABLE t ALTER COLUMN a SET NOT NULL",
            "SAVEPOINT a",
            "SET CONSTRAINTS ALL IMMEDIATE",
            "SET TRANSACTION READ ONLY",
        ):
            noted.note(text, ["search_path"])
    assert not noted._before
    assert not queries.captured_queries


def test_many_comments_take_no_time() -> None:
    """Whoever appends comments to statements."""
    noted = sessions.Session(connection)
    noted.note("/**/" * 10_000 + "x", None)
    noted.note("--\n" * 10_000 + "x", None)
    noted.note(";" * 10_000 + "x", None)
    assert not noted._before
