"""Hand a message of the log to one group, without a broker: what its queue may have lost."""

from inbox.delivery import Delivery
from inbox.followup import Came
from inbox.operator import NotPossible
from inbox.receiving.batch import Batch
from outbox.database.transactions import own_transaction
from outbox.models import Message


def hand_over(message: Message, group: str, *, using: str) -> Came:
    """Have the handlers of a group handle a message, here and now; return what came of it.

    Those that have a receipt of it are not called. Raises NotPossible if none can use it.
    """
    batch = Batch(
        [Delivery.of(message.as_envelope())], using=using, group=group, keep_letters=False
    )
    with own_transaction(using, durable=False, handlers=True):
        [tally] = batch.receive()
    if batch.unusable:
        raise NotPossible(batch.unusable[0].error)
    came = Came()
    came.count(tally)
    return came
