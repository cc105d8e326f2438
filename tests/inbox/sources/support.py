"""What tests of bindings say of times, and what a group remembers."""

from datetime import datetime, timedelta
from typing import Any

from django.utils import timezone

from inbox.models import Binding


def unwanted(*topics: str) -> None:
    """Let it be over a day ago that a consumer wanted these."""
    long = timezone.now() - timedelta(hours=25)
    Binding.objects.filter(topic__in=topics).update(wanted=long, seen=long, declared=long)


def long_ago(**about: Any) -> datetime:
    """Let what a group has done have happened an hour ago."""
    moment = timezone.now() - timedelta(hours=1)
    Binding.objects.filter(**about).update(seen=moment, declared=moment)
    return moment


def remembered(*, bound: bool = True) -> list[str]:
    """The topics that are, or are not, bound as far as is known."""
    found = Binding.objects.filter(unbound__isnull=bound).order_by("topic")
    return list(found.values_list("topic", flat=True))
