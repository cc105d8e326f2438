"""The handlers of a process: one for each of its events, one for what it sends to itself."""

from typing import TYPE_CHECKING, Any

from inbox.handlers.registry import MAX_HANDLER_NAME, Handler, handlers
from inbox.processes.table import Trigger, TriggerKind
from outbox.exceptions import ConfigurationError
from outbox.message.envelope import Envelope
from outbox.message.process_messages import TIMER

if TYPE_CHECKING:
    from inbox.processes.declaring import Process


def handler_name(process: type["Process"], trigger: Trigger) -> str:
    """Return the name of the receipts of an event that a process handles."""
    version = f" v{trigger.version}" if trigger.version > 1 else ""
    return f"{process.name}/{trigger.name}{version}"


def own_name(process: type["Process"]) -> str:
    """Return the name of the receipts of timers and of the ends of requests."""
    return f"{process.name}/own"


def register(process: type["Process"]) -> None:
    """Register the handlers of a process; raise ConfigurationError for a name that is too long."""
    for trigger in process.table.triggers:
        if trigger.kind is not TriggerKind.EVENT:
            continue
        name = handler_name(process, trigger)
        if len(name) > MAX_HANDLER_NAME:
            raise ConfigurationError(
                f"Process {process.name}: its name and that of {trigger.name} have more than "
                f"{MAX_HANDLER_NAME} characters together, which is what receipts can be named"
            )
        handlers.add(
            Handler(
                name=name,
                pattern=trigger.name,
                function=_stepped,
                version=trigger.version,
                declared_group=process.group,
                retry=process.retry,
                process=process.name,
            )
        )
    handlers.add(
        Handler(
            name=own_name(process),
            pattern=TIMER,
            function=_stepped,
            retry=process.retry,
            addressed=True,
            process=process.name,
        )
    )


def unregister(process: type["Process"]) -> None:
    """Forget the handlers of a process; for tests."""
    for each in handlers:
        if each.process == process.name:
            handlers.remove(each.name)


def _stepped(event: Any, message: Envelope) -> None:
    """Stand for a step, which is taken by inbox.processes.stepping."""
    raise NotImplementedError
