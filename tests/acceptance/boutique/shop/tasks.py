from celery import shared_task


@shared_task
def send_receipt(order_id, copies=1):
    """Send an e-mail."""
