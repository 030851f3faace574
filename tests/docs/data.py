"""Check blocks of data: they are read by a parser, and SQL is executed on PostgreSQL."""

from __future__ import annotations

import configparser
import json
import tomllib

import yaml
from django.db import connection

from tests.docs.pages import ROOT

INCLUDE = "\\i "


def read_ini(source: str) -> None:
    parser = configparser.ConfigParser(interpolation=None)
    parser.read_string(source)
    assert parser.sections()


def read_json(source: str) -> None:
    json.loads(source)


def read_toml(source: str) -> None:
    assert tomllib.loads(source)


def read_yaml(source: str) -> None:
    assert yaml.safe_load(source)


def run_sql(source: str) -> None:
    """Execute SQL on PostgreSQL; files that it includes are those of the repository."""
    lines = source.splitlines()
    included = [line.removeprefix(INCLUDE).strip() for line in lines if line.startswith(INCLUDE)]
    scripts = [(ROOT / path).read_text() for path in included]
    if connection.vendor != "postgresql":
        return
    rest = "\n".join(line for line in lines if not line.startswith(INCLUDE))
    with connection.cursor() as cursor:
        for script in [*scripts, rest]:
            cursor.execute(script)
