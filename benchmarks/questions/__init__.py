"""One program per question: measures, prints ratios, writes a result."""

from importlib import import_module

from benchmarks.question import Question

NAMES = (
    "drain",
    "emit",
    "latency",
    "cost",
    "inbox",
    "ask",
    "metrics",
    "lanes",
    "celery",
    "growth",
    "pages",
)
"""In the order of the page."""


def questions() -> dict[str, Question]:
    """Return all questions by name."""
    modules = {name: import_module(f"{__name__}.{name}") for name in NAMES}
    return {name: module.QUESTION for name, module in modules.items()}
