"""The module that Django loads for the ENGINE ``project.embedded``."""

from typing import Any

from django.db.backends.postgresql import base
from django.db.backends.postgresql.client import DatabaseClient as PostgreSQLClient

from project import database_url
from project.embedded import server


class DatabaseClient(PostgreSQLClient):
    """Let ``manage.py dbshell`` start the server, and use the psql that comes with it."""

    @classmethod
    def settings_to_cmd_args_env(
        cls, settings_dict: dict[str, Any], parameters: Any
    ) -> tuple[list[str], dict[str, str] | None]:
        """Return the command line and the environment of the shell."""
        settings = settings_dict | _address()
        (_, *arguments), environment = super().settings_to_cmd_args_env(settings, parameters)
        return [str(server.program("psql")), *arguments], environment


class DatabaseWrapper(base.DatabaseWrapper):
    """A PostgreSQL connection whose server is started when it is first needed."""

    display_name = "Embedded PostgreSQL"
    client_class = DatabaseClient

    def get_connection_params(self) -> dict[str, Any]:
        """Start the server if nobody has, and return how to connect to it."""
        # Into the settings, not only into the result: who makes a connection of its own reads them.
        self.settings_dict.update(_address())
        return super().get_connection_params()


def _address() -> dict[str, Any]:
    settings = database_url.parse(server.url())
    return {key: settings[key] for key in ("USER", "HOST", "PORT")}
