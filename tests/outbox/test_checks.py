"""System checks: each id, and what manage.py check prints."""

import io

import pytest
from django.core.management import call_command
from django.core.management.base import SystemCheckError
from django.db import connection, connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.test import override_settings
from psycopg import IsolationLevel

from outbox import checks
from outbox.models import Message

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

    @pytest.mark.parametrize("databases", [None, [], ["other"]])
    def test_no_query_unasked(self, databases: list[str] | None, monkeypatch: pytest.MonkeyPatch):
        """A database that the check is not for is not asked."""

        def fail(self: BaseDatabaseWrapper) -> None:
            raise AssertionError("asked")

        monkeypatch.setattr(type(connections["default"]), "cursor", fail)
        assert checks.check_database_tagged(databases=databases) == []


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
