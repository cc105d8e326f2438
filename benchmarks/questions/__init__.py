"""One program per question: measures, prints ratios, writes a result."""

from benchmarks.question import Question


def questions() -> dict[str, Question]:
    """Return all questions by name, in the order of the page."""
    from benchmarks.questions import drain  # noqa: PLC0415 - each imports this package

    return {each.name: each for each in (drain.QUESTION,)}
