"""What billing leaves to a Celery worker."""

from functools import partial

from celery import shared_task
from django.core.mail import send_mail
from django.db import transaction

from inbox.celery import idempotent
from project.billing.models import Receipt


@shared_task(acks_late=True, reject_on_worker_lost=True)
@idempotent
def send_receipt(order_id: str, total: str) -> None:
    """Mail the receipt of an order; that it was is on record once, however often this is called.

    The mail goes out after the commit: a worker that ends just then sends none, rather than two.
    """
    Receipt.objects.create(order_id=order_id)
    subject, text = f"Your order {order_id}", f"Thank you. You have paid {total}."
    transaction.on_commit(partial(send_mail, subject, text, None, ["customer@example.org"]))
