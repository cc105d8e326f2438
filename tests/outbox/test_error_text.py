"""Text of exceptions: bounded, storable, and never a failure of its own."""

import logging
import signal
import threading
import time

import pytest

from outbox import error_text
from outbox.database.failures import is_outage, refusal
from outbox.error_text import (
    HIDDEN,
    causes,
    describe,
    masked,
    path_of,
    storable,
    text_of,
    traceback_of,
)
from outbox.interrupts import is_interrupt
from outbox.message.data_errors import cause
from outbox.message.data_errors import describe as problem
from outbox.runtime.display import JSONFormatter
from outbox.runtime.shutdown import Shutdown
from tests.kit.odd_exceptions import ODD, each_odd, made


def caught(name: str) -> BaseException:
    try:
        ODD[name]()
    except BaseException as exc:
        return exc
    raise AssertionError(f"{name} raised nothing")


@each_odd
def test_any_exception_has_a_text(name: str) -> None:
    """Type, message and traceback can be stored, are bounded, and say where it was raised."""
    exc = caught(name)

    for text, most in (
        (text_of(exc), error_text.MAX_ERROR),
        (describe(exc), error_text.MAX_ERROR),
        (path_of(type(exc)), 500),
        (traceback_of(exc), error_text.MAX_TRACEBACK),
        (traceback_of(exc, 500), 500),
    ):
        assert type(text) is str
        assert text == storable(text)
        assert len(text) <= most
    assert "odd_exceptions.py" in traceback_of(exc)
    assert 0 < len(list(causes(exc))) <= error_text.MAX_CAUSES


@each_odd
def test_what_is_wrong_with_data_is_told_of_any_exception(name: str) -> None:
    """An event's class may raise what it likes; only its type is told."""
    exc = caught(name)

    assert problem(exc, within="elsewhere") == storable(problem(exc, within="elsewhere"))
    cause(exc)
    assert is_outage(exc) in (True, False)
    assert refusal(exc) == ""


class Greedy(logging.Handler):
    """A handler of logs that asks the exception itself, and passes on what that raises."""

    def __init__(self) -> None:
        super().__init__()
        self.told: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info and record.exc_info[1] is not None:
            str(record.exc_info[1])
            repr(record.exc_info[1].args)
        self.told.append(self.format(record))


@each_odd
def test_any_exception_can_be_logged(name: str, caplog: pytest.LogCaptureFixture) -> None:
    """One line for each handler, with the traceback, whatever the handler does with it."""
    exc = caught(name)
    logger = logging.getLogger("tests.greedy")
    greedy = Greedy()
    greedy.setFormatter(JSONFormatter())
    logger.addHandler(greedy)
    with Shutdown() as shutdown:
        shutdown.install()  # as in every command: no KeyboardInterrupt is a person's
        error_text.log(logger, logging.ERROR, "It failed: %s", describe(exc), exc=exc)
    logger.removeHandler(greedy)

    assert len(greedy.told) == 1
    assert "It failed: " in greedy.told[0]
    assert "odd_exceptions.py" in greedy.told[0]
    assert caplog.records[0].funcName == "test_any_exception_can_be_logged"


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("str_raises", "Made: <no text: __str__ raised RuntimeError>"),
        ("str_exits", "Made: <no text: __str__ raised SystemExit>"),
        ("str_is_none", "Made: <no text: __str__ returned NoneType>"),
        ("str_is_lazy", "Made: translated later"),
        ("str_is_a_subclass", "Made: of a subclass"),
        ("str_is_not_storable", "Made: \\x00 and \\ud800"),
        ("nothing_said", "ValueError: "),
    ],
)
def test_what_is_told(name: str, told: str) -> None:
    """As much as there is, or what is in the way."""
    assert describe(caught(name)) == told


def test_a_text_is_asked_for_once() -> None:
    """A slow one costs its time once for each text that is made of it."""
    asked = []

    def slow(_: object) -> str:
        asked.append(1)
        return "slow"

    exc = made(__str__=slow)()

    assert describe(exc) == "Made: slow"
    assert len(asked) == 1
    assert traceback_of(exc).endswith("Made: slow\n")
    assert len(asked) == 2


def test_a_usual_traceback_is_that_of_python() -> None:
    """With its chain, as everybody knows it."""
    try:
        try:
            raise KeyError("first")
        except KeyError as exc:
            raise ValueError("second") from exc
    except ValueError as exc:
        text = traceback_of(exc)

    assert "KeyError: 'first'\n\nThe above exception was the direct cause" in text
    assert text.endswith("\nValueError: second\n")


def test_an_interrupt_is_a_persons_only_where_ctrl_c_raises_it() -> None:
    """Not in a thread, nor where the signal is handled: there it was the code that raised it."""
    exc = KeyboardInterrupt()
    assert is_interrupt(exc)
    assert not is_interrupt(SystemExit())

    found = []
    thread = threading.Thread(target=lambda: found.append(is_interrupt(exc)))
    thread.start()
    thread.join()
    with Shutdown() as shutdown:
        shutdown.install()
        found.append(is_interrupt(exc))
    assert found == [False, False]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


# --- Secrets ---------------------------------------------------------------------------------

WORDS = ("password", "token", "authorization", "card", "iban", "api_key")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("password=hunter2", "password=•••"),
        ("new_Password2 = hunter2, x=1", "new_Password2 = •••, x=1"),
        ("password: hunter2 was wrong", "password: ••• was wrong"),
        ("{'password': 'hun ter2', 'a': 1}", "{'password': •••, 'a': 1}"),
        ('{"api-key": "hun\\"ter2", "a": 1}', '{"api-key": •••, "a": 1}'),
        ('\\"token\\": \\"hunter2\\"', '\\"token\\": •••'),
        ("token=b'hunter2'", "token=•••"),
        ("password=SecretStr('hun ter2')", "password=•••"),
        ("password='hun ter2", "password=•••"),
        ("host=x password=hun,t;er2 dbname=y", "host=x password=••• dbname=y"),
        ("GET /?token=hunter2&user=x", "GET /?token=•••&user=x"),
        ("Authorization: Bearer hunter2 x", "Authorization: ••• x"),
        ("'card': {'number': '4111', 'cvc': 1}", "'card': •••"),
        ("card: 4111 1111 1111 1111 was refused", "card: ••• was refused"),
        ("iban=GB29 NWBK 6016 1331 9268 19", "iban=•••"),
        ("Key (token)=(hunter2) already exists.", "Key (token)=(•••) already exists."),
        (
            'Key (email, lower(token::text))=(a@b, hun)ter2) is not present in table "x".',
            'Key (email, lower(token::text))=(•••) is not present in table "x".',
        ),
        ("Schlüssel: Key (token)=(hunter2) existiert", "Schlüssel: Key (token)=(•••"),
        ("Key (email)=(a@b) already exists.", "Key (email)=(a@b) already exists."),
        ("Failing row contains (1, hunter2, null).", "Failing row contains (•••)."),
        (
            "[type=int_parsing, input_value='hunter2, x', input_type=str]",
            "[type=int_parsing, input_value=•••, input_type=str]",
        ),
        ("amqp://user:hunter2@host:5672/x", "amqp://•••@host:5672/x"),
        ("https://host/path?a=b@c", "https://host/path?a=b@c"),
        ("the password is wrong, and so is a=5", "the password is wrong, and so is a=5"),
        ("password=hunter2\nuser=x", "password=•••\nuser=x"),
    ],
)
def test_what_seems_to_be_secret_is_masked(text: str, shown: str) -> None:
    """However it is written; the rest stays, and so does what is masked."""
    assert masked(text, WORDS) == shown
    assert masked(shown, WORDS) == shown


def test_without_words_the_others_are_masked() -> None:
    """They are secret whatever their names are."""
    assert masked("password=x amqp://a:b@c", ()) == f"password=x amqp://{HIDDEN}@c"


@pytest.mark.parametrize(
    "part",
    [
        *("password", "token=", "token='", "token: ", "token=(", "token=,,", "token=\\'", "token="),
        *("Key (", "Key (token", "Key (token)=(", "://", "://a@", "://" + "a" * 90, "a", " ", "\\"),
        *(
            "input_value=",
            "Failing row contains (",
            "'token': '",
            'token"]',
            "token  ",
            "iban=DE1 ",
        ),
        *("token=A AB ", "token=bearer ", "token=a'", "input_value=, input_type", "iban=AB12 "),
    ],
)
def test_hostile_text_is_masked_in_time(part: str) -> None:
    """It is proportional to the length, and short for what is kept of an error."""
    text = (part * 8_000)[:8_000]
    started = time.process_time()
    masked(text, WORDS)
    assert time.process_time() - started < 1.0
