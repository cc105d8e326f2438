"""Which command of RabbitMQ mends what it refuses, by the words of the refusal: pure policy."""

import re
import shlex

SLOTS = ("configure", "write", "read")
"""The patterns of a user in a virtual host, in the order of set_permissions."""

_RESOURCE = re.compile(
    r"(?:(?P<right>configure|write|read) )?access to (?:topic '(?P<topic>[^']*)' in )?"
    r"(?P<kind>exchange|queue) '(?P<name>[^']*)' in vhost '(?P<vhost>[^']*)' refused for user "
    r"'(?P<user>[^']*)'"
)
_ACCESS = re.compile(r"access to vhost '(?P<vhost>[^']*)' refused for user '(?P<user>[^']*)'")
_NO_VHOST = re.compile(r"vhost '?(?P<vhost>.*?)'? not found")


# Newer versions of RabbitMQ say which right; of older ones the method that was refused tells.
_RIGHTS = {
    ("exchange", (40, 10)): "configure",  # exchange.declare
    ("queue", (50, 10)): "configure",  # queue.declare
    ("queue", (50, 20)): "write",  # queue.bind
    ("exchange", (50, 20)): "read",
    ("queue", (50, 50)): "write",  # queue.unbind
    ("exchange", (50, 50)): "read",
    ("queue", (60, 20)): "read",  # basic.consume
    ("queue", (60, 70)): "read",  # basic.get
    ("exchange", (60, 40)): "write",  # basic.publish
}


def command(said: str, method: tuple[int, int] | None = None) -> str:
    """Return the command, and what has to be known for it; "" if the words are others.

    `method` is the class and number of the AMQP method that was refused.

    RabbitMQ keeps one set of patterns for a user and a virtual host: a command replaces them all,
    and no client can ask for those that there are.
    """
    if found := _RESOURCE.search(said):
        right = found["right"] or _RIGHTS.get((found["kind"], method or (0, 0)), "")
        return _set(found, right)
    if found := _ACCESS.search(said):
        return _line("set_permissions", "-p", found["vhost"], found["user"]) + _words(SLOTS)
    if found := _NO_VHOST.search(said):
        return _line("add_vhost", found["vhost"])
    return ""


def _set(found: re.Match[str], right: str) -> str:
    """Return the command that sets the pattern of a right, the others as they are."""
    user, vhost, name, topic = (found[each] for each in ("user", "vhost", "name", "topic"))
    verb = "permissions" if topic is None else "topic_permissions"
    slots = SLOTS if topic is None else SLOTS[1:]
    start = _line(f"set_{verb}", "-p", vhost, user, *([] if topic is None else [name]))
    if right not in slots:
        return start + _words(slots)
    quoted = re.escape(name if topic is None else topic).replace(r"\-", "-")
    pattern = shlex.quote(f"^{quoted}$")
    words = "".join(f" {pattern if each == right else each.upper()}" for each in slots)
    return (
        f"{start}{words}, the others as they are, and what it may {right} already joined to it "
        f"by '|'; {_line(f'list_user_{verb}', user)} shows them"
    )


def _line(*words: str) -> str:
    return shlex.join(("rabbitmqctl", *words))


def _words(slots: tuple[str, ...]) -> str:
    return "".join(f" {each.upper()}" for each in slots)
