"""System checks: each id, and what manage.py check prints."""

import io
from typing import Any

import pytest
from django.core.management import call_command
from django.core.management.base import SystemCheckError
from django.db import connection, connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.test import override_settings
from psycopg import IsolationLevel

from outbox import checks
from outbox.models import Message
from outbox.producer.recording import EmitsEvents
from tests.kit.defaults import defaults
from tests.kit.services.callbacks import SECRET
from tests.outbox.models import ConcreteThing, SpecialThing, Thing

postgresql = pytest.mark.skipif(connection.vendor != "postgresql", reason="about PostgreSQL")


def ids(messages: list[object]) -> list[str]:
    return [message.id for message in messages]


@pytest.fixture
def options(monkeypatch: pytest.MonkeyPatch) -> dict[str, object]:
    """OPTIONS of the default database, to be changed."""
    changed: dict[str, object] = {}
    monkeypatch.setitem(connection.settings_dict, "OPTIONS", changed)
    return changed


class ToOther:
    def db_for_write(self, model: type, **hints: object) -> str | None:
        return "other" if model is Message else None


class Everything:
    def db_for_write(self, model: type, **hints: object) -> str:
        return "other"


class Things:
    """Puts the models of the tests elsewhere, and says what the outbox may do there."""

    def __init__(self, allowed: bool | None) -> None:
        self.allowed = allowed

    def db_for_write(self, model: type, **hints: object) -> str | None:
        return "other" if issubclass(model, EmitsEvents) else None

    def allow_migrate(self, db: str, app_label: str, **hints: object) -> bool | None:
        return self.allowed if (db, app_label) == ("other", "django_outbox") else None


@pytest.mark.sqlite
def test_nothing_to_say():
    """The tests' own settings pass every check."""
    assert checks.check_settings() == []
    assert checks.check_database() == []
    assert checks.check_deployment() == []


class TestSettings:
    """E001."""

    @pytest.mark.parametrize(
        "value", [{"LANE": 1}, {"LANES": "4"}, {"LANES": 0}, {"SOURCE": "my shop"}, None, []]
    )
    def test_wrong(self, value: object):
        """Whatever is wrong with OUTBOX is an error with a hint."""
        with override_settings(OUTBOX=value):
            [error] = checks.check_settings()

        assert error.id == "outbox.E001"
        assert "OUTBOX" in error.msg
        assert error.hint

    def test_all_at_once(self):
        """An error for each thing that is wrong, not one after the other."""
        with override_settings(OUTBOX={"LANE": 1, "LANES": 0, "NOTIFY": "yes"}):
            found = checks.check_settings()

        assert ids(found) == ["outbox.E001"] * 3
        told = "\n".join(each.msg for each in found)
        assert "LANE." in told
        assert "OUTBOX['LANES'] must be from 1 to 1024, not 0" in told
        assert "OUTBOX['NOTIFY'] must be True or False" in told

    def test_command(self):
        """manage.py check fails with it and says which key is meant."""
        with override_settings(OUTBOX={"LANE": 1}), pytest.raises(SystemCheckError) as caught:
            call_command("check", stdout=io.StringIO(), stderr=io.StringIO())

        assert "(outbox.E001) OUTBOX has unknown keys: LANE." in str(caught.value)


class TestDatabase:
    """E002 and E003."""

    @pytest.mark.parametrize("vendor", ["mysql", "oracle", "unknown"])
    def test_unsupported(self, vendor: str, monkeypatch: pytest.MonkeyPatch):
        """Other databases cannot hold the log, and the error says which can."""
        monkeypatch.setattr(connection, "vendor", vendor)
        [error] = checks.check_database()

        assert error.id == "outbox.E002"
        assert "'default'" in error.msg
        assert "PostgreSQL" in (error.hint or "")

    def test_where_the_router_sends_it(self, monkeypatch: pytest.MonkeyPatch, settings):
        """It is the database of the outbox that counts."""
        monkeypatch.setattr(connection, "vendor", "mysql")
        settings.DATABASE_ROUTERS = [ToOther()]

        assert checks.check_database() == []

    @postgresql
    @pytest.mark.parametrize("level", [IsolationLevel.REPEATABLE_READ, IsolationLevel.SERIALIZABLE])
    def test_configured_level(self, options: dict[str, object], level: IsolationLevel):
        """Another isolation level in OPTIONS is an error that names it."""
        options["isolation_level"] = level
        [error] = checks.check_database()

        assert error.id == "outbox.E003"
        assert level.name in error.msg
        assert error.hint

    @postgresql
    @pytest.mark.parametrize("level", [IsolationLevel.READ_COMMITTED, 2, None])
    def test_right_level(self, options: dict[str, object], level: object):
        """READ COMMITTED may be said, as it may be left out."""
        options["isolation_level"] = level
        assert checks.check_database() == []

    @postgresql
    def test_level_that_is_none(self, options: dict[str, object]):
        """Nonsense is an error, too, not a crash."""
        options["isolation_level"] = "strict"
        assert ids(checks.check_database()) == ["outbox.E003"]

    @postgresql
    @pytest.mark.django_db(transaction=True)
    def test_default_of_the_server(self):
        """With --database the server is asked what it does by default."""
        assert checks.check_database_tagged(databases=["default"]) == []
        with connection.cursor() as cursor:
            cursor.execute("SET default_transaction_isolation = 'serializable'")
            try:
                [error] = checks.check_database_tagged(databases=["default"])
                with pytest.raises(SystemCheckError, match=r"outbox\.E003"):
                    call_command(
                        "check", databases=["default"], stdout=io.StringIO(), stderr=io.StringIO()
                    )
            finally:
                cursor.execute("RESET default_transaction_isolation")

        assert (error.id, "serializable" in error.msg) == ("outbox.E003", True)

    @postgresql
    @pytest.mark.django_db(transaction=True)
    def test_options_go_before_the_server(self, options: dict[str, object]):
        """A level in OPTIONS holds whatever the server's default is."""
        options["isolation_level"] = IsolationLevel.READ_COMMITTED
        with connection.cursor() as cursor:
            cursor.execute("SET default_transaction_isolation = 'serializable'")
            try:
                assert checks.check_database_tagged(databases=["default"]) == []
            finally:
                cursor.execute("RESET default_transaction_isolation")

    @postgresql
    @pytest.mark.django_db(transaction=True)
    def test_commits_that_do_not_wait(self):
        """W020 says for whom: our own session, and whoever the server has a setting for."""
        assert checks.check_durability(databases=["default"]) == []
        with connection.cursor() as cursor:
            cursor.execute("SET synchronous_commit = off")
            [own] = checks.check_durability(databases=["default"])
            cursor.execute("RESET synchronous_commit")
        assert own.id == "outbox.W020"
        assert "off for this session" in own.msg

        with defaults(synchronous_commit="off"):
            [both] = checks.check_durability(databases=["default"])
        name = connection.settings_dict["NAME"]
        assert f"off for this session, database {name}" in both.msg

    @pytest.mark.parametrize("databases", [None, [], ["other"]])
    def test_no_query_unasked(self, databases: list[str] | None, monkeypatch: pytest.MonkeyPatch):
        """A database that the check is not for is not asked."""

        def fail(self: BaseDatabaseWrapper) -> None:
            raise AssertionError("asked")

        monkeypatch.setattr(type(connections["default"]), "cursor", fail)
        assert checks.check_database_tagged(databases=databases) == []


class TestModels:
    """E004."""

    def test_all_on_one_database(self):
        """Models beside the outbox pass, wherever both are."""
        assert checks.check_models() == []
        with override_settings(DATABASE_ROUTERS=[Everything()]):
            assert checks.check_models() == []

    @pytest.mark.parametrize(
        ("allowed", "fate"), [(None, "no relay reads"), (False, "there is no table")]
    )
    def test_routed_elsewhere(self, allowed: bool | None, fate: str):
        """Each model is named, with both databases, what becomes of its events, and what to do."""
        with override_settings(DATABASE_ROUTERS=[Things(allowed)]):
            errors = checks.check_models()

        assert ids(errors) == ["outbox.E004"] * len(errors)
        assert {error.obj for error in errors} >= {Thing, ConcreteThing, SpecialThing}
        for error in errors:
            assert "on the database 'other'" in error.msg
            assert "on 'default'" in error.msg
            assert fate in error.msg
            assert "relay --database other" in error.hint

    def test_a_router_that_does_not_tell_now(self):
        """One for tenants raises where none is chosen: nothing is said, and `check` goes on."""

        class OfTenants:
            def db_for_write(self, model: Any, **_: Any) -> str | None:
                if issubclass(model, EmitsEvents):
                    raise RuntimeError("no tenant is chosen")
                return None

        with override_settings(DATABASE_ROUTERS=[OfTenants()]):
            assert checks.check_models() == []

    def test_an_outbox_there_as_well(self):
        """A router that says so, in words, has thought of it."""
        with override_settings(DATABASE_ROUTERS=[Things(True)]):
            assert checks.check_models() == []


class TestSQLite:
    """W002."""

    @pytest.mark.parametrize(
        ("vendor", "debug", "expected"),
        [
            ("sqlite", False, ["outbox.W002"]),
            ("sqlite", True, []),
            ("postgresql", False, []),
        ],
    )
    def test_in_production(
        self, vendor: str, debug: bool, expected: list[str], monkeypatch: pytest.MonkeyPatch
    ):
        """With DEBUG off SQLite is warned of before it is deployed."""
        monkeypatch.setattr(connection, "vendor", vendor)
        with override_settings(DEBUG=debug):
            assert ids(checks.check_sqlite()) == expected


class TestDeployment:
    """W001."""

    @pytest.mark.parametrize("value", [{}, {"SOURCE": ""}])
    def test_no_source(self, value: dict[str, object]):
        """Without a source of its own a service is warned before it is deployed."""
        with override_settings(OUTBOX=value):
            assert ids(checks.check_deployment()) == ["outbox.W001"]

    def test_other_errors(self):
        """What is wrong with OUTBOX is left to E001."""
        with override_settings(OUTBOX=None):
            assert checks.check_deployment() == []

    @pytest.mark.django_db
    def test_command(self):
        """manage.py check --deploy prints the warning; without --deploy it does not."""
        printed = io.StringIO()
        with override_settings(OUTBOX={}):
            call_command("check", deploy=True, stdout=printed, stderr=printed)
            quiet = io.StringIO()
            call_command("check", stdout=quiet, stderr=quiet)

        assert "(outbox.W001)" in printed.getvalue()
        assert "outbox.W001" not in quiet.getvalue()


class TestWebhooks:
    """E009, W005, W006."""

    @pytest.mark.parametrize(
        ("webhooks", "errors", "warnings"),
        [
            ({}, [], []),
            ({"SECRETS": SECRET}, [], []),
            ({"SECRETS": "whsec_short", "HTTP": True}, ["outbox.E009"], []),
            ({"SECRETS": SECRET, "HTTP": True}, [], ["outbox.W005"]),
            ({"SECRETS": SECRET, "SUBNETS": ["10.0.0.0/8"]}, [], ["outbox.W006"]),
            ({"SECRETS": SECRET, "SUBNETS": ["1.1.1.0/24"]}, [], []),
        ],
    )
    def test_settings(self, webhooks: dict[str, object], errors: list[str], warnings: list[str]):
        """What is unusable is an error; what may be meant so is told before it is deployed."""
        with override_settings(OUTBOX={"WEBHOOKS": webhooks}):
            assert ids(checks.check_webhooks()) == errors
            assert ids(checks.check_webhooks_deployed()) == warnings

    def test_other_errors(self):
        """What is wrong with OUTBOX is left to E001."""
        with override_settings(OUTBOX={"LANES": 0, "WEBHOOKS": {"HTTP": 7}}):
            assert checks.check_webhooks() == checks.check_webhooks_deployed() == []
