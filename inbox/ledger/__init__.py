"""The inbox's tables on one database: what is written and read, many rows at a time."""
