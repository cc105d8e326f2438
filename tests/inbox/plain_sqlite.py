"""Settings with a SQLite file as `startproject` makes it: no options. TEST_SQLITE is its path."""

import os

from tests import settings as base
from tests.settings import *  # noqa: F403

DATABASES = {
    **base.DATABASES,
    "default": {"ENGINE": "django.db.backends.sqlite3", "NAME": os.environ["TEST_SQLITE"]},
}
