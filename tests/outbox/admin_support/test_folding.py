"""Large parts of JSON are folded, and nothing of it is lost."""

import json
import re
from html import unescape
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outbox.admin_support.folding import LARGE, folded

pytestmark = pytest.mark.sqlite

values = st.recursive(
    st.none() | st.integers() | st.text(st.characters(exclude_categories=["Cs"])) | st.just("{\n["),
    lambda inner: st.lists(inner, max_size=12) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=60,
)


def indented(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False)


def plain(html: str) -> str:
    """Return the text of what was folded, as somebody sees it who unfolds everything."""
    html = re.sub(r" <small[^>]*>[^<]*</small></summary>", "\n", html)
    return unescape(re.sub(r"<[^>]*>", "", html)).removesuffix("\n")


@given(values)
def test_nothing_is_lost(value: Any) -> None:
    """The text is that of the JSON, and every part is closed."""
    text = indented(value)
    html = folded(text)

    assert plain(html) == text
    assert html.count("<details>") == html.count("</details>")


@given(values, st.integers(0, 300))
def test_it_may_be_cut_off(value: Any, length: int) -> None:
    """A page shows only the beginning of what is long."""
    text = indented(value)[:length].rstrip("\n")
    html = folded(text)

    assert plain(html) == text
    assert html.count("<details>") == html.count("</details>")


def test_large_parts_are_folded() -> None:
    """With how much is in them; small ones and the outermost are not."""
    small, large = {"a": 1}, [{"x": n} for n in range(LARGE)]
    html = folded(indented({"small": small, "large": large, "b": "<b>"}))

    assert html.count("<details>") == 1
    assert f'&quot;large&quot;: [ <small class="outbox-quiet">{LARGE} entries</small>' in html
    assert "&lt;b&gt;" in html
    assert "<details>" not in folded(indented(list(range(100))))
