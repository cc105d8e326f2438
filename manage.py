#!/usr/bin/env python
"""Run a management command of the example project."""

import os
import sys

from django.core.exceptions import ImproperlyConfigured
from django.core.management import execute_from_command_line

if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "project.settings")
    try:
        execute_from_command_line(sys.argv)
    except ImproperlyConfigured as exc:  # of the environment, mostly; it says what is wrong
        sys.exit(f"{type(exc).__name__}: {exc}")
