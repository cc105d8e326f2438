"""OpenTelemetry's own library for Celery, where a project has it at work."""

import sys
from typing import Any


def is_at_work() -> bool:
    """Tell whether it makes the spans of tasks that run. Imports nothing."""
    library: Any = sys.modules.get("opentelemetry.instrumentation.celery")
    if library is None:
        return False
    # An Instrumentor is one object, however often it is made.
    return bool(library.CeleryInstrumentor().is_instrumented_by_opentelemetry)
