"""A sampler that keeps what belongs together: what is linked to a sampled span is sampled too.

It needs the SDK, which only those processes have that export spans.
"""

from collections.abc import Sequence

from opentelemetry.context import Context
from opentelemetry.sdk.trace.sampling import Decision, Sampler, SamplingResult
from opentelemetry.trace import Link, SpanKind, TraceState
from opentelemetry.util.types import Attributes


class FollowLinks(Sampler):
    """Samples what a link says was sampled where it comes from; `root` decides on all else.

    ParentBased(FollowLinks(TraceIdRatioBased(0.1)))

    A trace that begins with a link has an id of its own, so that a ratio of ids would keep a tenth
    of the tenth.
    """

    def __init__(self, root: Sampler) -> None:
        self._root = root

    def should_sample(
        self,
        parent_context: Context | None,
        trace_id: int,
        name: str,
        kind: SpanKind | None = None,
        attributes: Attributes = None,
        links: Sequence[Link] | None = None,
        trace_state: TraceState | None = None,
    ) -> SamplingResult:
        if any(link.context.trace_flags.sampled for link in links or ()):
            return SamplingResult(Decision.RECORD_AND_SAMPLE, attributes)
        return self._root.should_sample(
            parent_context, trace_id, name, kind, attributes, links, trace_state
        )

    def get_description(self) -> str:
        return f"FollowLinks{{{self._root.get_description()}}}"
