"""Do what people ask for once, however often they ask: somebody clicks twice, an answer gets lost.

That it was begun is a row that can be inserted once. What came of it is kept beside it for whoever
asks again.
"""

import hashlib
from collections.abc import Callable, Sequence
from datetime import timedelta

from django.db import IntegrityError, router, transaction

from outbox.database.clock import database_now
from outbox.exceptions import OutboxError
from outbox.models import DoneOnce

KEPT = timedelta(days=8)
"""How long it is known that something was done: longer than anybody can go on with a run."""
_FORGOTTEN = 1_000
"""Old rows that are deleted with a new one, at most."""


class StillBegun(OutboxError):
    """It was begun, and it is not known what came of it: it is in work, or its process has died."""


def once(do: Callable[[], str], *name: str) -> tuple[str, bool]:
    """Do it, unless that was done under this name; return what came of it, and whether it was now.

    If it raises, it was not done, and can be asked for again. Raises StillBegun if it was begun
    and has no end.
    """
    using = router.db_for_write(DoneOnce)
    digest = _digest(name)
    rows = DoneOnce.objects.using(using)
    now = database_now(using)
    try:
        with transaction.atomic(using):
            row = rows.create(name=digest, begun=now)
    except IntegrityError:
        answer = rows.filter(name=digest).values_list("answer", flat=True).first()
        if answer is None:
            raise StillBegun(
                "It was begun before: it is in work, or its process has ended. See what came of it."
            ) from None
        return answer, False
    try:
        answer = do()
    except Exception:
        rows.filter(pk=row.pk).delete()
        raise
    rows.filter(pk=row.pk).update(answer=answer)
    old = rows.filter(begun__lt=now - KEPT).order_by("begun").values("pk")[:_FORGOTTEN]
    rows.filter(pk__in=list(old.values_list("pk", flat=True))).delete()
    return answer, True


def came_of(*name: str) -> str | None:
    """Return what came of what was done under a name; None if nothing is known of it."""
    rows = DoneOnce.objects.using(router.db_for_write(DoneOnce)).filter(name=_digest(name))
    return rows.values_list("answer", flat=True).first()


def _digest(name: Sequence[str]) -> str:
    return hashlib.sha256("\0".join(name).encode(errors="surrogatepass")).hexdigest()
