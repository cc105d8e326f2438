"""SQL that databases write differently, for the statements of all apps."""

# Now, by the database's clock. PostgreSQL: that of the statement, as no index could be used with
# clock_timestamp(). SQLite: what Django's Now() is there.
PG_STATEMENT_NOW = "statement_timestamp()"
SQLITE_STATEMENT_NOW = "strftime('%%Y-%%m-%%d %%H:%%M:%%f', 'now')"
