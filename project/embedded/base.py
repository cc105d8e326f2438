"""The module that Django loads for the ENGINE ``project.embedded``."""

from typing import Any

from django.db.backends.postgresql import base
from django.db.backends.postgresql.client import DatabaseClient as PostgreSQLClient

from project import database_url
from project.embedded import server


class DatabaseClient(PostgreSQLClient):
    """Let ``manage.py dbshell`` start the server, and use the psql that comes with it."""

    executable_name = "psql"

    def runshell(self, parameters: Any) -> None:
        """Open an interactive shell on the embedded server."""
        self.executable_name = str(server.program("psql"))
        self.connection.get_connection_params()
        super().runshell(parameters)


class DatabaseWrapper(base.DatabaseWrapper):
    """A PostgreSQL connection whose server is started when it is first needed."""

    display_name = "Embedded PostgreSQL"
    client_class = DatabaseClient

    def get_connection_params(self) -> dict[str, Any]:
        """Start the server if nobody has, and return how to connect to it."""
        address = database_url.parse(server.url())
        # Into the settings, not only into the result: dbshell and test databases read them there.
        self.settings_dict.update({key: address[key] for key in ("USER", "HOST", "PORT")})
        return super().get_connection_params()
