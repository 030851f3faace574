"""The files beside the code: workflows name environments that exist, versions agree."""

from __future__ import annotations

import re
from configparser import ConfigParser
from importlib import metadata
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.version import Version

import backbeat_celery

ROOT = Path(__file__).parents[2]
GITHUB = ROOT / ".github"
OF_A_CHECKOUT = pytest.mark.skipif(not GITHUB.is_dir(), reason="not in the sdist")
FORMS = sorted(GITHUB.glob("ISSUE_TEMPLATE/[!c]*.yml"))
RUN = re.compile(r"tox(?:\"?) run(?:-parallel)?[^\n]*? -e \"?([^\s\"]+)")


def load(path: Path) -> dict[Any, Any]:
    content = yaml.safe_load(path.read_text())
    assert isinstance(content, dict), path
    return content


def expanded(text: str) -> list[str]:
    """What braces stand for, as in `py3{11,12}-django{52,60}`."""
    parts = [part.split(",") for part in re.split(r"[{}]", text)]
    return ["".join(parts) for parts in product(*parts)]


def ini(name: str) -> ConfigParser:
    parsed = ConfigParser(interpolation=None)
    assert parsed.read(ROOT / name)
    return parsed


def default_environments() -> set[str]:
    """Those that `tox run` runs."""
    return {name.strip() for name in ini("tox.ini")["tox"]["env_list"].split(",")}


def environments() -> set[str]:
    """All that tox.ini names: the list, the sections, and the factors of the common section."""
    tox, found = ini("tox.ini"), default_environments()
    for section in tox.sections():
        if section.startswith("testenv:"):
            found.update(expanded(section.removeprefix("testenv:")))
    return found | set(re.findall(r"^(\w+):", tox["testenv"]["set_env"], re.MULTILINE))


def called(workflow: dict[Any, Any]) -> set[str]:
    """The tox environments that a workflow runs."""
    found: set[str] = set()
    for job in workflow["jobs"].values():
        matrix = job.get("strategy", {}).get("matrix", {})
        values = [*matrix.get("tox", []), *(row["tox"] for row in matrix.get("include", []))]
        for step in job["steps"]:
            for names in RUN.findall(step.get("run", "").replace("${{ matrix.tox }}", "MATRIX")):
                found.update(values if names == "MATRIX" else names.split(","))
    return found


def called_locally() -> set[str]:
    """The tox environments that .ci/run runs."""
    script = (ROOT / ".ci/run").read_text().replace("\\\n", "")
    variables = dict(re.findall(r"^(\w+)=(\S+)$", script, re.MULTILINE))
    for name, value in variables.items():
        script = script.replace(f"${name}", value)
    assert '"$tox" run\n' in (ROOT / ".ci/run").read_text()
    named = {name for names in RUN.findall(script) for name in names.split(",")}
    return named | default_environments()


@OF_A_CHECKOUT
@pytest.mark.parametrize("name", ["ci", "release"])
def test_workflows_name_environments_that_exist(name):
    names = called(load(GITHUB / f"workflows/{name}.yml"))

    assert names
    assert names <= environments()


@OF_A_CHECKOUT
def test_the_hosted_runs_are_those_of_the_local_script():
    """And the pairs of versions, for which one machine rarely has all interpreters."""
    hosted = called(load(GITHUB / "workflows/ci.yml"))

    assert called_locally() <= hosted
    assert {"py311-django52", "py314-django60"} <= hosted
    assert "py311-django60" not in hosted


@OF_A_CHECKOUT
def test_only_the_job_that_publishes_may_ask_for_an_identity():
    workflow = load(GITHUB / "workflows/release.yml")

    assert workflow["permissions"] == {"contents": "read"}
    with_rights = {name: job.get("permissions") for name, job in workflow["jobs"].items()}
    assert with_rights == {"build": None, "publish": {"id-token": "write"}}
    assert workflow["jobs"]["publish"]["needs"] == "build"
    # YAML 1.1 reads the key `on` as true.
    assert workflow[True] == {"push": {"tags": ["v*"]}}


@OF_A_CHECKOUT
@pytest.mark.parametrize("path", FORMS, ids=lambda path: path.name)
def test_issue_forms_have_what_makes_a_form(path):
    form = load(path)

    assert {"name", "description", "body"} <= form.keys()
    fields = [field for field in form["body"] if field["type"] != "markdown"]
    assert all(field["id"] and field["attributes"]["label"] for field in fields)
    assert any(field.get("validations", {}).get("required") for field in fields)


@OF_A_CHECKOUT
def test_every_hook_runs_a_tool_of_the_environment():
    """So that each tool is pinned once, in the extra "lint"."""
    (repository,) = load(ROOT / ".pre-commit-config.yaml")["repos"]

    assert repository["repo"] == "local"
    assert {hook["language"] for hook in repository["hooks"]} == {"system"}


def test_the_version_is_written_once():
    assert ini("setup.cfg")["metadata"]["version"] == "attr: backbeat_celery.__version__"
    assert str(Version(backbeat_celery.__version__)) == backbeat_celery.__version__
    assert metadata.version("backbeat-celery") == backbeat_celery.__version__
    assert backbeat_celery.__version__ in (ROOT / "CHANGELOG.md").read_text()
