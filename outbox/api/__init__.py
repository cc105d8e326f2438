"""The HTTP API, with Django REST framework: `path("api/", include("outbox.api.urls"))`.

What is in this folder beside `checks` and `conf` needs the extra `drf`; nothing else imports it.
"""
