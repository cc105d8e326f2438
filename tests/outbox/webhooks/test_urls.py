"""Which URLs may be called back: one way to write each, and none that hides where it goes."""

import pytest

from outbox.webhooks.urls import flaw, host_of, origin_of, shown

pytestmark = pytest.mark.sqlite

GOOD = [
    "https://example.com",
    "https://example.com/hooks/7?token=abc&x=%20",
    "https://sub.xn--bcher-kva.example:8443/",
    "https://93.184.216.34/hook",
    "https://[2606:2800:220:1::1]:443/hook",
    "https://a_b.example.com/[1]",
]
BAD = {
    "no string": 7,
    "empty": "",
    "too long": "https://example.com/" + "a" * 2000,
    "another scheme": "ftp://example.com/",
    "a file": "file:///etc/passwd",
    "no scheme": "//example.com/",
    "no host": "https:///hook",
    "http": "http://example.com/",
    "user info": "https://user:secret@example.com/",
    "user info that looks like a host": "https://example.com@127.0.0.1/",
    "an empty user": "https://@127.0.0.1/",
    "a fragment": "https://example.com/#a",
    "an empty fragment": "https://example.com/#",
    "a port that is none": "https://example.com:99999/",
    "port 0": "https://example.com:0/",
    "no port": "https://example.com:/",
    "a port of letters": "https://example.com:http/",
    "a backslash": "https://example.com\\@127.0.0.1/",
    "a space": "https://example.com /",
    "a tab": "https://exa\tmple.com/",
    "a line": "https://example.com/\r\nHost: other",
    "a wide host": "https://１２７.０.０.１/",  # noqa: RUF001
    "a circled host": "https://ⓛⓞⓒⓐⓛⓗⓞⓢⓣ/",
    "an umlaut": "https://bücher.example/",
    "a full stop of another script": "https://127。0。0。1/",
    "hexadecimal": "https://0x7f.1/",
    "hexadecimal at the end": "https://127.0.0.0x1/",
    "decimal": "https://2130706433/",
    "octal": "https://0177.0.0.1/",
    "short": "https://127.1/",
    "a number at the end": "https://example.1/",
    "a dot at the end": "https://127.0.0.1./",
    "a zone": "https://[fe80::1%25eth0]/",
    "a zone without escape": "https://[fe80::1%eth0]/",
    "half a bracket": "https://[::1/",
    "brackets around a name": "https://[example.com]/",
    "an escaped host": "https://%31%32%37.0.0.1/",
    "an empty label": "https://example..com/",
    "a hyphen in front": "https://-example.com/",
}


@pytest.mark.parametrize("url", GOOD)
def test_a_plain_url_has_no_flaw(url: str) -> None:
    assert flaw(url, http=False) is None


@pytest.mark.parametrize("url", BAD.values(), ids=BAD.keys())
def test_an_odd_url_is_refused_without_quoting_it(url: object) -> None:
    """The text may be logged, and the URL may hold a token."""
    problem = flaw(url, http=False)

    assert problem
    assert not isinstance(url, str) or not url or url not in problem


def test_http_is_allowed_where_settings_say_so() -> None:
    assert flaw("http://example.com/", http=True) is None
    assert flaw("HTTPS://Example.com/", http=False) is None


def test_what_is_shown_has_no_query() -> None:
    url = "https://Example.com:8443/hooks/7?token=secret&a=1"

    assert shown(url) == "https://Example.com:8443/hooks/7?•••"
    assert shown("https://example.com/a") == "https://example.com/a"
    assert origin_of(url) == "https://example.com:8443"
    assert host_of(url) == "example.com"
