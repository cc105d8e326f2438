"""The resources of the outbox itself."""

from outbox.api.acknowledgements import Acknowledgements
from outbox.api.breaks import Breaks, Reconciliations
from outbox.api.failures import Failures
from outbox.api.flow import Conversations, TopologyResource
from outbox.api.messages import Messages, ScheduledMessages
from outbox.api.requests import Requests
from outbox.api.views import Resource
from outbox.api.watching import Doings, Findings

RESOURCES: list[type[Resource]] = [
    Messages,
    ScheduledMessages,
    Requests,
    Acknowledgements,
    Reconciliations,
    Breaks,
    Conversations,
    TopologyResource,
    Failures,
    Findings,
    Doings,
]
