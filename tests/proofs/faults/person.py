"""A person who gives `manage.py` commands: `python -m tests.proofs.faults.person`.

Reads the arguments of a command with --json from each line of its standard input, and answers with
a line of what the command has printed. One process for all, so that they follow upon each other.
"""

import io
import json
import os
import sys

import django
from django.core.management import CommandError, call_command


def answer(arguments: list[str]) -> str:
    """Run a command and return the line of JSON that it prints, also if it complains after it."""
    printed = io.StringIO()
    try:
        call_command(*arguments, "--json", stdout=printed)
    except CommandError as exc:
        if not printed.getvalue():
            return json.dumps({"error": str(exc)})
    return printed.getvalue().strip()


if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.proofs.faults.settings")
    django.setup()
    for line in sys.stdin:
        print(answer(json.loads(line)), flush=True)
