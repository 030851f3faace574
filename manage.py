#!/usr/bin/env python
"""Django's command line for the demo project."""

import os
import sys


def main() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "demo_project.settings")
    try:
        from django.core.management import execute_from_command_line
    except ImportError:
        sys.exit(
            "Django is not installed here. These two commands set everything up:\n"
            "  python3 -m pip install -q tox && tox run -e demo\n"
            "  tox run"
        )
    execute_from_command_line(sys.argv)


if __name__ == "__main__":
    main()
