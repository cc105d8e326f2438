"""Cancel requests by their ids, each in a transaction; print how many that has settled."""

import os
import sys

import django

os.environ["DJANGO_SETTINGS_MODULE"] = "asking.settings"
django.setup()

import outbox  # noqa: E402

print(sum(outbox.Asked(each).cancel(by="a test") for each in sys.argv[1:]))
