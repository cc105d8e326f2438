"""Every statement that the inbox runs itself, by subject.

Values are parameters, names are fixed here. `vendor` is that of the database: "postgresql", or
"sqlite" for development.
"""
