"""Send so many parcels, each in a transaction."""

import os
import sys

import django

os.environ["DJANGO_SETTINGS_MODULE"] = "sending.settings"
django.setup()

from django.db import transaction  # noqa: E402
from sending.events import Parcel  # noqa: E402

import outbox  # noqa: E402

for number in range(int(sys.argv[1])):
    with transaction.atomic():
        outbox.emit(Parcel(number))
