"""The Celery apps of this process whose tasks go into the outbox; system checks look at them."""

from typing import Any
from weakref import WeakSet

apps: WeakSet[Any] = WeakSet()
