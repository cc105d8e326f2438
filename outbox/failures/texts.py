"""What errors say without what differs from one to the next: ids, numbers, values, paths."""

import re

SHOWN = 200
"""Characters of a text that are compared, and shown."""
LEFT_OUT = "…"
"""What stands in the place of a value."""

_READ = 2_000
_CLASS = re.compile(r"((?:[^\W\d]\w*|<locals>)(?:\.(?:[^\W\d]\w*|<locals>))*)(?::\s|:?$)")
# Each looks ahead for a bounded part only: hostile text costs no more time.
_QUOTED = {
    "'": r"(?<!\w)'[^'\n]{0,99}'(?!\w)",
    '"': r'"[^"\n]{0,99}"',
    "`": r"`[^`\n]{0,99}`",
    "”": r"“[^”\n]{0,99}”",
    "»": r"«[^»\n]{0,99}»",
    "@": r"\b[\w.+-]{1,64}@[\w-]{1,64}(?:\.[\w-]{1,64})+",  # an e-mail address
    "://": r"\b[a-zA-Z][a-zA-Z0-9+.-]{1,20}://[^\s'\"<>]+",
}
"""Values by what stands in them, so that most texts are not searched for most of them."""
_OTHERS = re.compile(
    r"""
      (?<![\w.…])(?:[A-Za-z]:)?(?:[\\/][\w.@+~-]+){2,}[\\/]?  # a path
    | (?P<word>\w[\w-]*)
    | (?<!\w)[+-]?\d+                                         # a number
    """,
    re.VERBOSE,
)
_TWO_DIGITS = re.compile(r"\d\D*\d")
_NUMBER = re.compile(r"(?<!\w)-?\d+(?!\w)|0x[0-9a-fA-F]+")
# Parts of one value, such as the date in 2026-11-30 12:04:05.123, are one.
_PARTS = re.compile(rf"{LEFT_OUT}(?:[ ]?[.,:/+-]?[ ]?{LEFT_OUT})+")


def parted(error: str) -> tuple[str, str]:
    """Return the class of an exception and its text, of an error that begins with the class.

    The class is "" if it does not begin so.
    """
    found = _CLASS.match(error)
    if found is None:
        return "", error
    return found[1], error[found.end() :]


def normalised(text: str) -> str:
    """Return a text in one line, with an ellipsis for each value: equal for what is alike."""
    line = " ".join(text[:_READ].split())
    for sign, pattern in _QUOTED.items():
        if sign in line:
            line = re.sub(pattern, LEFT_OUT, line)
    short = _PARTS.sub(LEFT_OUT, _OTHERS.sub(_without_value, line))
    return short if len(short) <= SHOWN else short[: SHOWN - 1] + LEFT_OUT


def _without_value(found: re.Match[str]) -> str:
    """Return a word, or an ellipsis for an id: what has two digits and more."""
    word = found["word"]
    if word is None or _TWO_DIGITS.search(word):
        return LEFT_OUT
    if word.isalpha():
        return str(word)
    return _NUMBER.sub(LEFT_OUT, word)
