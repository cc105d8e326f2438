"""The frameworks' own test suites, run through our backend and our app.

What differs from the framework's own behaviour is listed as data, each with its reason.
"""
