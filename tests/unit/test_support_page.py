"""The page about supported versions says what the package's metadata say."""

from __future__ import annotations

import re
from configparser import ConfigParser
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "support.md").read_text()
README = (ROOT / "README.md").read_text()

config = ConfigParser()
config.read(ROOT / "setup.cfg")
METADATA = config["metadata"]["classifiers"]
REQUIRED = config["options"]["install_requires"]


def versions(page: str, name: str) -> list[str]:
    """The versions that a table gives for a name."""
    (row,) = re.findall(rf"^\| {name} \| ([^|]+)\|", page, re.MULTILINE)
    return re.findall(r"\d+\.\d+", row.partition("(")[0])


def classified(name: str) -> list[str]:
    return re.findall(rf"{name} :: (\d+\.\d+)", METADATA)


@pytest.mark.parametrize("page", [PAGE, README])
def test_python_and_django(page: str):
    assert versions(page, "Python") == classified("Programming Language :: Python")
    assert versions(page, "Django") == classified("Framework :: Django")


@pytest.mark.parametrize("page", [PAGE, README])
def test_the_oldest_celery(page: str):
    (oldest,) = re.findall(r"celery>=(\d+\.\d+)", REQUIRED)
    assert versions(page, "Celery")[0] == oldest


def test_the_security_policy_is_there():
    policy = (ROOT / "SECURITY.md").read_text()
    assert "Report a vulnerability" in policy
    for path in re.findall(r"\]\((docs/[\w-]+\.md)", policy):
        assert (ROOT / path).exists()
