"""Spans cost nothing while they are off, and no message while they are on."""

import logging
import subprocess
import sys
from typing import Any

import pytest
from django.db import transaction
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import Sampler, SamplingResult

import outbox
from inbox.models import Receipt
from outbox.checks import check_tracing
from outbox.message.envelope import Envelope
from outbox.tracing import hooks
from relay.log import open_log
from relay.transfer import transfer
from tests.inbox.support import Handling, happened, receive
from tests.kit.spans import Spans
from tests.kit.support import Counted, RecordingBroker

pytestmark = [pytest.mark.sqlite, pytest.mark.django_db(transaction=True)]


def emit() -> Envelope:
    with transaction.atomic():
        return outbox.emit(Counted("k", 1))


def publish() -> int:
    broker = RecordingBroker()
    log = open_log("mine", using="default", start="beginning")
    for lane in log.lanes_with_work(4):
        transfer(log, broker, lane, 100)
    return len(broker.published)


class RaisingExporter(SpanExporter):
    def export(self, spans: Any) -> SpanExportResult:
        raise OSError("no collector")


class RaisingProcessor(SpanProcessor):
    def __init__(self, when: str) -> None:
        self._when = when

    def on_start(self, span: Any, parent_context: Any = None) -> None:
        if self._when == "start":
            raise ValueError("at the start")

    def on_end(self, span: ReadableSpan) -> None:
        if self._when == "end":
            raise ValueError("at the end")


class RaisingSampler(Sampler):
    def should_sample(self, *args: Any, **kwargs: Any) -> SamplingResult:
        raise SystemExit("no sample")

    def get_description(self) -> str:
        return "raises"


@pytest.mark.parametrize("broken", ["exporter", "start", "end", "sampler"])
def test_whatever_the_sdk_raises_the_message_arrives(
    monkeypatch: pytest.MonkeyPatch,
    settings: Any,
    handling: Handling,
    caplog: pytest.LogCaptureFixture,
    broken: str,
) -> None:
    """It is told once, and nothing is missing."""
    provider = TracerProvider(shutdown_on_exit=False)
    if broken == "exporter":
        provider.add_span_processor(SimpleSpanProcessor(RaisingExporter()))
    elif broken == "sampler":
        provider = TracerProvider(sampler=RaisingSampler(), shutdown_on_exit=False)
    else:
        provider.add_span_processor(RaisingProcessor(broken))
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", provider)
    monkeypatch.setattr(hooks, "_told", set())
    settings.OUTBOX = {**settings.OUTBOX, "TRACING": "link"}
    seen: list[str] = []
    handling(lambda event, message: seen.append(message.id), pattern="tests.counted")
    with caplog.at_level(logging.ERROR, "outbox"):
        messages = [emit(), emit()]
        assert publish() == 2
        receive(*messages)
    assert seen == [message.id for message in messages]
    assert Receipt.objects.filter(state="processed").count() == 2
    if broken != "exporter":  # which the SDK contains itself
        told = [each.message for each in caplog.records if each.name == "outbox"]
        assert len(told) == 1
        assert "OpenTelemetry has failed" in told[0]


def test_what_the_handler_raises_is_not_kept_back(
    monkeypatch: pytest.MonkeyPatch, settings: Any, handling: Handling
) -> None:
    """By a span that fails as it ends."""
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(RaisingProcessor("end"))
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", provider)
    settings.OUTBOX = {**settings.OUTBOX, "TRACING": "link"}

    def fail(event: Any, message: Envelope) -> None:
        raise ValueError("its own")

    handling(fail)
    receive(happened())
    assert Receipt.objects.get().error == "ValueError: its own"


HOSTILE = [
    "00-" + "0" * 32 + "-b7ad6b7169203331-01",
    "00-0af7651916cd43dd8448eb211c80319c-" + "0" * 16 + "-01",
    "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    "00-0AF7651916CD43DD8448EB211C80319C-B7AD6B7169203331-01",
    "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-zz",
    "00-" + "g" * 32 + "-b7ad6b7169203331-01",
    "\N{ARABIC-INDIC DIGIT ZERO}" * 55,
    "1" * 55,
    "1" * 100_000,
    "01-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-" + "x" * 5_000,
    "",
]


@pytest.mark.parametrize("trace_parent", HOSTILE)
@pytest.mark.parametrize("trace_state", [None, "=", "a" * 100_000, "a=1," * 300, "é=1", "\x00"])
def test_whatever_comes_in_the_handler_is_called(
    spans: Spans, handling: Handling, trace_parent: str, trace_state: str | None
) -> None:
    """Its span belongs to no trace then; what it emits has a sound one."""
    seen: list[Envelope] = []
    handling(lambda event, message: seen.append(emit()))
    receive(happened(trace_parent=trace_parent, trace_state=trace_state))
    [emitted] = seen
    process = spans.one("process")
    assert process.parent is None
    assert process.links == ()
    assert len(emitted.trace_parent or "") == 55
    assert publish() == 1


def test_a_state_from_outside_goes_with_a_sound_trace(spans: Spans, handling: Handling) -> None:
    """What is no state is left out, and the trace stays."""
    sound = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    handling()
    for state in ("a=b", "\x00", "a" * 5_000, "no state"):
        receive(happened(trace_parent=sound, trace_state=state))
    assert len(spans.of("process")) == 4
    for span in spans.of("process"):
        [link] = span.links
        assert f"{link.context.trace_id:032x}" == sound[3:35]


def test_without_an_sdk_the_trace_goes_on(
    monkeypatch: pytest.MonkeyPatch, settings: Any, handling: Handling
) -> None:
    """The API alone makes no spans; the message keeps the trace that it has."""
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", trace.NoOpTracerProvider())
    settings.OUTBOX = {**settings.OUTBOX, "TRACING": "link"}
    sound = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    seen: list[Envelope] = []
    handling(lambda event, message: seen.append(emit()), pattern="tests.counted")
    with outbox.use_context(trace_parent=sound):
        message = emit()
    receive(message)
    plain = emit()
    assert [message.trace_parent, seen[0].trace_parent, plain.trace_parent] == [sound, sound, None]


def test_off_imports_nothing() -> None:
    """Not even the API, in a process that emits, publishes and handles."""
    script = """
import sys, django
from django.conf import settings
settings.configure(
    INSTALLED_APPS=["outbox", "relay", "inbox"], SECRET_KEY="x", USE_TZ=True,
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
    OUTBOX=OUTBOX, RELAYS={"default": {"BACKEND": "relay.brokers.local.LocalBroker"}},
)
django.setup()
from django.core.management import call_command
from django.db import transaction
import outbox
from inbox import handler
outbox.register("a.c")
seen = []
@handler("a.*", name="h", group="g")
def h(event, message): seen.append(message)
call_command("migrate", verbosity=0)
with transaction.atomic():
    outbox.emit("a.c", {"n": 1})
call_command("relay", until_empty=True)
assert len(seen) == 1, seen
print("loaded" if any(name.startswith("opentelemetry") for name in sys.modules) else "nothing")
"""
    for settings, expected in (({}, "nothing"), ({"TRACING": "link"}, "loaded")):
        text = script.replace("OUTBOX=OUTBOX", f"OUTBOX={settings!r}")
        done = subprocess.run(
            [sys.executable, "-c", text], capture_output=True, text=True, timeout=60
        )
        assert done.stdout.split()[-1:] == [expected], done.stderr


def test_on_without_the_api_there_are_none(monkeypatch: pytest.MonkeyPatch, settings: Any) -> None:
    """A check says so, and messages go their way."""
    assert check_tracing() == []
    settings.OUTBOX = {**settings.OUTBOX, "TRACING": "link"}
    assert check_tracing() == []
    hooks.available.cache_clear()
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "opentelemetry.trace", None)
        assert [each.id for each in check_tracing()] == ["outbox.W004"]
        assert emit().trace_parent is None
    hooks.available.cache_clear()
    settings.OUTBOX = {**settings.OUTBOX, "TRACING": "yes"}
    with pytest.raises(outbox.ConfigurationError, match="'off', 'link' or 'parent', not 'yes'"):
        emit()


@pytest.mark.parametrize("broken", ["start", "end"])
def test_an_sdk_that_breaks_later_harms_no_page_and_no_batch(
    monkeypatch: pytest.MonkeyPatch, spans: Spans, handling: Handling, broken: str
) -> None:
    """Of messages that are sampled: there are links to them, and a span to be made."""
    seen: list[str] = []
    handling(lambda event, message: seen.append(message.id), pattern="tests.counted")
    message = emit()
    assert spans.names == ["create tests.counted"]
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(RaisingProcessor(broken))
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", provider)
    assert publish() == 1
    receive(message)
    assert seen == [message.id]
    assert Receipt.objects.get().state == "processed"
