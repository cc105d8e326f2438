"""Two groups that note each parcel in a table without any constraint: twice would be seen."""

from typing import Any

from django.db import connection

import inbox


def note(group: str, parcel: Any) -> None:
    with connection.cursor() as cursor:
        cursor.execute("INSERT INTO noted VALUES (%s, %s)", [group, parcel["number"]])


@inbox.handler("post.parcel", group="billing")
def bill(parcel: Any, message: object) -> None:
    note("billing", parcel)


@inbox.handler("post.parcel", group="shipping")
def ship(parcel: Any, message: object) -> None:
    note("shipping", parcel)
