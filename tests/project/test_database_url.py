"""Database URLs and Django's settings."""

import pytest
from django.core.exceptions import ImproperlyConfigured
from hypothesis import given
from hypothesis import strategies as st

from project.database_url import compose, parse

pytestmark = pytest.mark.sqlite


def test_a_full_url_fills_every_setting():
    """User, password, host, port, name and options all arrive."""
    settings = parse(
        "postgresql://ann:secret@db.example:6432/shop?sslmode=require&connect_timeout=5"
    )

    assert settings == {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": "shop",
        "USER": "ann",
        "PASSWORD": "secret",
        "HOST": "db.example",
        "PORT": "6432",
        "OPTIONS": {"sslmode": "require", "connect_timeout": "5"},
    }


def test_the_short_scheme_means_the_same():
    """Hosting providers write postgres:// for postgresql://."""
    assert parse("postgres://db/shop") == parse("postgresql://db/shop")


def test_credentials_are_percent_decoded():
    """A password may hold the characters that have a meaning in a URL."""
    settings = parse("postgresql://a%40b:p%2Fw%3Ax%2B+@db/na%20me")

    assert settings["USER"] == "a@b"
    assert settings["PASSWORD"] == "p/w:x++"
    assert settings["NAME"] == "na me"


def test_a_socket_directory_comes_as_option_or_as_encoded_host():
    """Both of libpq's ways to name a Unix socket keep the case of its path."""
    assert parse("postgresql://ann@/shop?host=/run/My+Sockets")["HOST"] == "/run/My+Sockets"
    assert parse("postgresql://ann@%2Frun%2FPg/shop")["HOST"] == "/run/Pg"


@pytest.mark.parametrize(
    ("address", "host", "port"),
    [
        ("[::1]:6432", "::1", "6432"),
        ("[fe80::1]", "fe80::1", ""),
        ("one:1,two:2", "one,two", "1,2"),
        ("one,two", "one,two", ""),
        ("", "", ""),
    ],
)
def test_addresses_of_every_kind(address: str, host: str, port: str):
    """IPv6 addresses, several hosts and no host at all are understood."""
    settings = parse(f"postgresql://{address}/shop")

    assert (settings["HOST"], settings["PORT"]) == (host, port)


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("sqlite:///db.sqlite3", "db.sqlite3"),
        ("sqlite:////var/lib/a%20b.sqlite3", "/var/lib/a b.sqlite3"),
        ("sqlite://:memory:", ":memory:"),
        ("sqlite://", ":memory:"),
    ],
)
def test_sqlite_urls(url: str, name: str):
    """Three slashes precede a relative path, four an absolute one."""
    assert parse(url)["NAME"] == name


def test_an_sqlite_file_has_a_file_for_its_tests():
    """Other processes can open the test database of a file, which they cannot in memory."""
    assert parse("sqlite:///db.sqlite3")["TEST"]["NAME"] == "db.sqlite3.test"
    assert "TEST" not in parse("sqlite://")


@pytest.mark.parametrize(
    ("url", "hint"),
    [
        ("mysql://ann:secret@db/shop", "use postgresql://"),
        ("secret", "use postgresql://"),
        ("postgresql://ann:secret@db", "names no database"),
        ("postgresql://ann:secret@db:many/shop", "port that is no number"),
        ("sqlite:///db.sqlite3?password=secret", "SQLite takes none"),
        (" postgresql://ann:secret@db/shop", "white space"),
        ("postgresql://ann:sec\nret@db/shop", "white space"),
        ("postgresql://ann:secret@db/shop\n", "white space"),
        ("postgresql://ann:secret@db/shop\u200b", "white space"),
        ("postgresql://ann:secret%@db/shop", "hexadecimal"),
        ("postgresql://ann:secret%FF@db/shop", "UTF-8"),
        ("postgresql://ann:secret", "port that is no number"),
        ("postgresql://ann:se/cret@db/shop", "percent-encoded"),
        ("postgresql://ann:12/secret@db/shop", "percent-encoded"),
        ("postgresql://ann:12?secret@db/shop", "percent-encoded"),
        ("postgresql://ann:12#secret@db/shop", "percent-encoded"),
        ("postgresql://ann:se[cret@db/shop", "percent-encoded"),
        ("postgresql://ann:se\u2100cret@db/shop", "percent-encoded"),
    ],
)
def test_a_bad_url_is_refused_without_its_password(url: str, hint: str):
    """The error says what to write instead, and does not repeat the URL."""
    with pytest.raises(ImproperlyConfigured, match=hint) as refused:
        parse(url)

    assert "ann" not in str(refused.value).replace("cannot", "")
    assert "secret" not in str(refused.value)
    assert "cret" not in str(refused.value)
    # Nor in a traceback, which tells of what was being handled too.
    assert refused.value.__context__ is None


_text = st.text(st.characters(min_codepoint=32, codec="utf-8"), min_size=1)


@given(
    st.fixed_dictionaries(
        {
            "NAME": _text,
            "USER": _text,
            "PASSWORD": _text,
            "HOST": _text,
            "PORT": st.sampled_from(["", "5432"]),
            "OPTIONS": st.dictionaries(st.sampled_from(["sslmode", "options"]), _text),
        }
    )
)
def test_compose_is_undone_by_parse(settings: dict):
    """A child process that gets the composed URL has the settings of its parent."""
    settings = {"ENGINE": "django.db.backends.postgresql", **settings}

    assert parse(compose(settings)) == settings


def test_compose_knows_sqlite():
    """The URL of an SQLite database leads to the same file."""
    assert parse(compose(parse("sqlite:////var/lib/a%3Fb")))["NAME"] == "/var/lib/a?b"
