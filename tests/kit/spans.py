"""Spans that are kept in memory, and what of them belongs together."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, SpanLimits, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_ON, Sampler


class Spans:
    """What has been exported, from the oldest on."""

    def __init__(self, sampler: Sampler = ALWAYS_ON) -> None:
        self._exporter = InMemorySpanExporter()
        # More links than ours, so that it is not the SDK that keeps to their number.
        limits = SpanLimits(max_links=1000)
        self.provider = TracerProvider(sampler, shutdown_on_exit=False, span_limits=limits)
        self.provider.add_span_processor(SimpleSpanProcessor(self._exporter))
        self.tracer = self.provider.get_tracer("tests")

    @property
    def all(self) -> Sequence[ReadableSpan]:
        return sorted(self._exporter.get_finished_spans(), key=lambda span: span.start_time or 0)

    @property
    def names(self) -> list[str]:
        return [span.name for span in self.all]

    def of(self, operation: str) -> list[ReadableSpan]:
        """Those of one operation."""
        return [span for span in self.all if span.name.startswith(f"{operation} ")]

    def one(self, name: str) -> ReadableSpan:
        """The one whose name begins so."""
        [found] = [span for span in self.all if span.name.startswith(name)]
        return found

    def clear(self) -> None:
        self._exporter.clear()

    def unreachable(self, root: ReadableSpan) -> list[str]:
        """The names of those that no chain of parents and links connects with one."""
        edges: dict[int, set[int]] = {}
        for span in self.all:
            others = [link.context.span_id for link in span.links]
            if span.parent is not None:
                others.append(span.parent.span_id)
            for other in others:
                edges.setdefault(id_of(span), set()).add(other)
                edges.setdefault(other, set()).add(id_of(span))
        seen, todo = set(), [id_of(root)]
        while todo:
            if (each := todo.pop()) not in seen:
                seen.add(each)
                todo += edges.get(each, ())
        return [span.name for span in self.all if id_of(span) not in seen]


def id_of(span: ReadableSpan) -> int:
    return int(span.get_span_context().span_id)


def trace_of(span: ReadableSpan) -> int:
    return int(span.get_span_context().trace_id)


def parent_of(span: ReadableSpan) -> int | None:
    return None if span.parent is None else int(span.parent.span_id)


def linked(span: ReadableSpan) -> list[int]:
    """The ids of the spans that it is linked to."""
    return [int(link.context.span_id) for link in span.links]


def attributes_of(span: ReadableSpan) -> dict[str, Any]:
    return dict(span.attributes or {})


@contextmanager
def recording(
    monkeypatch: pytest.MonkeyPatch,
    settings: Any,
    sampler: Sampler = ALWAYS_ON,
    tracing: str = "link",
) -> Iterator[Spans]:
    """Keep all spans of the block, with tracing on."""
    spans = Spans(sampler)
    with monkeypatch.context() as patch:
        # set_tracer_provider() works once in a process.
        patch.setattr(trace, "_TRACER_PROVIDER", spans.provider)
        before = settings.OUTBOX
        settings.OUTBOX = {**before, "TRACING": tracing}
        yield spans
        settings.OUTBOX = before
    spans.provider.shutdown()
