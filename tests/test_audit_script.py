"""The script behind `make audit`."""

import pytest

from scripts import audit

_SOUND = {"name": "kombu", "version": "5.7.0", "vulns": []}
_VULNERABLE = {
    "name": "django",
    "version": "5.2.0",
    "vulns": [{"id": "CVE-2026-1", "fix_versions": ["5.2.1", "6.0.1"]}],
}
_UNKNOWN = {"name": "vine", "skip_reason": "not found"}


@pytest.mark.parametrize(
    ("packages", "code", "lines"),
    [
        ([_SOUND], 0, ["1 audited, 0 vulnerable"]),
        (
            [_SOUND, _VULNERABLE],
            1,
            ["django 5.2.0: CVE-2026-1, mended in 5.2.1, 6.0.1", "2 audited, 1 vulnerable"],
        ),
        (
            [_UNKNOWN, _SOUND],
            0,
            ["NOT AUDITED: the index has no advisories for 1 of 2", "1 audited, 0 vulnerable"],
        ),
    ],
)
def test_an_audit_names_what_is_vulnerable_and_what_it_could_not_ask(
    capsys: pytest.CaptureFixture[str], packages: list[dict], code: int, lines: list[str]
):
    """Only a known vulnerability fails; an index without advisories is told, not hidden."""
    assert audit.report(packages) == code
    assert capsys.readouterr().out.splitlines() == lines
