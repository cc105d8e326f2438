"""The innermost call in a traceback that is the service's own."""

import traceback

import pytest

from outbox.extensions.failures import Frame
from outbox.failures.frames import own_frame

OWN = """\
Traceback (most recent call last):
  File "/srv/lib/python3.13/site-packages/inbox/calls.py", line 10, in call
    return function(event)
  File "/srv/app/releases/7/billing/handlers.py", line 42, in invoice
    price = prices[order]
            ~~~~~~^^^^^^^
  File "/srv/lib/python3.13/site-packages/prices/table.py", line 3, in __getitem__
    raise KeyError(name)
KeyError: 'x'
"""


def installed(path: str) -> bool:
    return "site-packages" in path


def test_the_innermost_own_call_counts() -> None:
    """Not that of a library which it calls, nor that which calls it."""
    assert own_frame(OWN, installed) == Frame(
        file="billing/handlers.py", function="invoice", code="price = prices[order]"
    )


def test_another_line_number_or_folder_is_the_same_place() -> None:
    """It changes with every deployment; the source line does not."""
    moved = OWN.replace("releases/7", "releases/8").replace("line 42", "line 57")

    assert own_frame(moved, installed) == own_frame(OWN, installed)
    assert own_frame(OWN.replace("prices[order]", "prices[0]"), installed) != own_frame(
        OWN, installed
    )


def test_without_an_own_call_there_is_none() -> None:
    """Or without any."""
    assert own_frame(OWN, lambda path: True) is None
    assert own_frame("", installed) is None
    assert own_frame('  File "', installed) is None


@pytest.mark.parametrize("wrapped", [False, True])
def test_python_writes_them_so(wrapped: bool) -> None:
    """Those of a group of exceptions as well."""
    try:
        try:
            raise ValueError("no luck")
        except ValueError as exc:
            if wrapped:
                raise ExceptionGroup("several", [exc]) from None
            raise
    except Exception as exc:
        text = "".join(traceback.format_exception(exc))

    found = own_frame(text, installed)

    assert found is not None
    assert (found.function, found.code) == (
        "test_python_writes_them_so",
        'raise ValueError("no luck")',
    )
    assert found.file == "failures/test_frames.py"
