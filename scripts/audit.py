"""Ask whether a pinned package has a known vulnerability, and say what could not be asked.

Exit code 1 if one has. An index that knows nothing of vulnerabilities is named, and is no failure.
"""

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
COMMAND = (
    *(sys.executable, "-m", "pip_audit", "--requirement", "constraints.txt"),
    # The pins are complete: nothing has to be resolved or installed.
    *("--no-deps", "--disable-pip", "--format", "json", "--progress-spinner", "off"),
)


def main() -> int:
    """Audit the pins."""
    audited = subprocess.run(COMMAND, cwd=ROOT, capture_output=True, text=True, check=False)
    try:
        packages = json.loads(audited.stdout)["dependencies"]
    except (ValueError, KeyError):
        print(f"NOT AUDITED: pip-audit says: {audited.stderr.strip()[-500:]}")
        return 0
    return report(packages)


def report(packages: Sequence[dict[str, Any]]) -> int:
    """Print what the audit found; return the exit code."""
    vulnerable = [package for package in packages if package.get("vulns")]
    unknown = [package["name"] for package in packages if "skip_reason" in package]
    for package in vulnerable:
        for vulnerability in package["vulns"]:
            mended = ", ".join(vulnerability["fix_versions"]) or "no version yet"
            name = f"{package['name']} {package['version']}"
            print(f"{name}: {vulnerability['id']}, mended in {mended}")
    if unknown:
        print(f"NOT AUDITED: the index has no advisories for {len(unknown)} of {len(packages)}")
    print(f"{len(packages) - len(unknown)} audited, {len(vulnerable)} vulnerable")
    return 1 if vulnerable else 0


if __name__ == "__main__":
    sys.exit(main())
