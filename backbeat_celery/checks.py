"""System checks: wrong settings are reported at start."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from difflib import get_close_matches
from fnmatch import filter as filter_names
from typing import Any

from celery import current_app
from django.conf import settings as django_settings
from django.core import checks
from django.db import connections

from backbeat_celery.conf import OPTIONS, Option, seconds, settings
from backbeat_celery.engine.delivery.project_app import HINT, missing_app
from backbeat_celery.inputs.policy import is_node_task, rescue_name
from backbeat_celery.inputs.task_options import task_problems
from backbeat_celery.inputs.task_registry import import_trouble, load_tasks
from backbeat_celery.models import node_alias
from backbeat_celery.runtime import migration_state
from backbeat_celery.runtime.lock_timeouts import missing_idle_timeout


@checks.register("backbeat_celery")
def check_settings(**_: Any) -> list[checks.CheckMessage]:
    """Check every key of BACKBEAT."""
    values = settings.user_values
    if not isinstance(values, Mapping):
        return [_error("E001", "BACKBEAT is not a dictionary.", "BACKBEAT = {'LEASE': 30}")]
    messages = []
    for key, value in values.items():
        if key not in OPTIONS:
            near = get_close_matches(str(key), OPTIONS, n=1)
            hint = f"Did you mean {near[0]}?" if near else f"Known keys: {', '.join(OPTIONS)}."
            messages.append(_error("E002", f"BACKBEAT has an unknown key {key!r}.", hint))
        elif problem := _problem(OPTIONS[key], value):
            messages.append(_error("E003", f"BACKBEAT[{key!r}] {problem}.", OPTIONS[key].help))
    return messages or _check_together()


def _problem(option: Option, value: Any) -> str:
    number: Any = seconds(value)
    if value is None and option.nullable:
        return ""
    # A bool is an int in Python, and a mistake here unless the option is a bool.
    is_misplaced = isinstance(value, bool) and bool not in option.kinds
    if is_misplaced or not isinstance(value, option.kinds):
        names = " or ".join(kind.__name__ for kind in option.kinds)
        return f"is {value!r}, but must be {names}{' or None' if option.nullable else ''}"
    if isinstance(value, float) and value == float("inf"):
        return "is infinite, but must be a finite number"
    if option.minimum is not None and not number >= option.minimum:
        return f"is {value!r}, but must be at least {option.minimum}"
    return ""


def _check_together() -> list[checks.CheckMessage]:
    messages: list[checks.CheckMessage] = []
    if settings.sweep_interval > settings.lease:
        messages.append(
            checks.Warning(
                "BACKBEAT['SWEEP_INTERVAL'] is longer than BACKBEAT['LEASE'].",
                hint="A dead worker's nodes wait for the sweep; make it a fraction of the lease.",
                id="backbeat_celery.W001",
            )
        )
    if settings.mail_admins and not django_settings.ADMINS:
        messages.append(
            checks.Warning(
                "BACKBEAT['MAIL_ADMINS'] is on, but ADMINS is empty.",
                hint="Name the recipients in ADMINS, and the sender in SERVER_EMAIL.",
                id="backbeat_celery.W004",
            )
        )
    if not django_settings.USE_TZ:
        message = "USE_TZ is off, but the times of nodes have time zones."
        messages.append(_error("E007", message, "Set USE_TZ = True."))
    for alias in settings.databases:
        if alias not in connections:
            message = f"BACKBEAT['DATABASES'] names {alias!r}, which DATABASES does not have."
            messages.append(_error("E004", message, "List aliases of DATABASES."))
    return messages


@checks.register("backbeat_celery")
def check_celery(**_: Any) -> list[checks.CheckMessage]:
    """Check the settings of the Celery app that the engine needs."""
    conf = current_app.conf
    messages: list[checks.CheckMessage] = []
    if conf.task_always_eager:
        messages.append(
            checks.Warning(
                "task_always_eager is on, but nodes are never run eagerly.",
                hint="Use backbeat_celery.testing.Simulation in tests, and a worker elsewhere.",
                id="backbeat_celery.W002",
            )
        )
    if problem := missing_app():
        messages.append(checks.Warning(f"{problem}.", hint=HINT, id="backbeat_celery.W030"))
    if conf.task_protocol != 2:
        message = "Celery's task_protocol is 1, whose messages cannot say that they are a node's."
        messages.append(_error("E005", message, "Leave task_protocol at 2."))
    return messages


@checks.register("backbeat_celery")
def check_tasks(**_: Any) -> list[checks.CheckMessage]:
    """Check the options and handlers of every task of the project.

    A problem of a NodeTask is an error, of another task a warning: it may never become a node.
    """
    if not _load_tasks():
        return []
    if trouble := import_trouble():
        hint = "A worker cannot start either; the log has the traceback."
        return [_error("E011", f"The project's task modules cannot be imported: {trouble}.", hint)]
    messages: list[checks.CheckMessage] = []
    for name, task in sorted(current_app.tasks.items()):
        if name.startswith("celery."):
            continue
        kind = checks.Error if is_node_task(task) else checks.Warning
        number = "E012" if is_node_task(task) else "W012"
        messages += [
            kind(problem, hint=TASK_HINT, id=f"backbeat_celery.{number}")
            for problem in task_problems(task) or _missing_rescue(task)
        ]
    return messages


_is_loading = False


def _load_tasks() -> bool:
    """Import the project's task modules; give False if such an import runs the checks.

    Celery's Django fixup runs all checks when an app imports its modules.
    """
    global _is_loading
    if _is_loading:
        return False
    _is_loading = True
    try:
        load_tasks()
    finally:
        _is_loading = False
    return True


TASK_HINT = "signal() and spawn() refuse the task until this is fixed: docs/retries.md."


def _missing_rescue(task: Any) -> list[str]:
    rescue = rescue_name(task)
    if not rescue or rescue in current_app.tasks:
        return []
    near = get_close_matches(rescue, current_app.tasks, n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    return [f"{task.name}: rescue is {rescue!r}, but no task of that name is registered.{hint}"]


@checks.register("backbeat_celery")
def check_admin_tasks(**_: Any) -> list[checks.CheckMessage]:
    """Check that each name in ADMIN_TASKS matches a task."""
    names = settings.user_values.get("ADMIN_TASKS") if _is_mapping() else None
    if not names or isinstance(names, str) or not isinstance(names, Collection):
        return []
    if wrong := [name for name in names if not isinstance(name, str)]:
        message = f"BACKBEAT['ADMIN_TASKS'] has {wrong[0]!r}, which is not the name of a task."
        return [_error("E030", message, OPTIONS["ADMIN_TASKS"].help)]
    if not _load_tasks():
        return []
    known = list(current_app.tasks)
    return [
        checks.Warning(
            f"BACKBEAT['ADMIN_TASKS'] has {name!r}, but no task has that name.",
            hint="Correct it, or import the module that defines the task (autodiscover_tasks).",
            id="backbeat_celery.W032",
        )
        for name in sorted(names)
        if not filter_names(known, name)
    ]


def _is_mapping() -> bool:
    return isinstance(settings.user_values, Mapping)


@checks.register(checks.Tags.database)
def check_tables(databases: Sequence[str] | None = None, **_: Any) -> list[checks.CheckMessage]:
    """Check that the tables are migrated for this release."""
    ours = set(settings.databases or [node_alias()])
    problems = [
        migration_state.missing_migrations(alias) for alias in databases or () if alias in ours
    ]
    hint = "Workers do nothing for nodes, and signal() raises NotMigrated, until then."
    return [
        checks.Warning(problem, hint=hint, id="backbeat_celery.W031")
        for problem in problems
        if problem
    ]


@checks.register(checks.Tags.database)
def check_databases(databases: Sequence[str] | None = None, **_: Any) -> list[checks.CheckMessage]:
    """Check that databases are set up for several writers, and for UTC."""
    messages: list[checks.CheckMessage] = []
    for alias in databases or ():
        connection = connections[alias]
        options = connection.settings_dict.get("OPTIONS", {})
        mode = str(options.get("transaction_mode") or "").upper()
        if connection.vendor == "sqlite" and mode != "IMMEDIATE":
            messages.append(
                checks.Warning(
                    f"The SQLite database {alias!r} begins its transactions in deferred mode.",
                    hint="Set OPTIONS = {'transaction_mode': 'IMMEDIATE', 'timeout': 20}; without "
                    "it several workers fail with 'database is locked'.",
                    id="backbeat_celery.W003",
                )
            )
        if connection.vendor != "postgresql" and connection.timezone_name != "UTC":
            messages.append(
                checks.Warning(
                    f"The database {alias!r} keeps the local time of {connection.timezone_name}.",
                    hint="Leave DATABASES['TIME_ZONE'] out: in the night when clocks go back an "
                    "hour comes twice, and leases, timers and retries of that hour are late; "
                    "when they go forward, attempts are declared lost.",
                    id="backbeat_celery.W020",
                )
            )
        if connection.vendor == "mysql" and _isolation(connection) != "read committed":
            messages.append(
                _error(
                    "E006",
                    f"The database {alias!r} does not run at READ COMMITTED.",
                    "Leave OPTIONS['isolation_level'] at Django's default; at REPEATABLE READ "
                    "two blocking signals start at once.",
                )
            )
    return messages


@checks.register(checks.Tags.database)
def check_limits(databases: Sequence[str] | None = None, **_: Any) -> list[checks.CheckMessage]:
    """Check that servers release the locks of a worker that lost its connection."""
    messages: list[checks.CheckMessage] = []
    for alias in databases or ():
        if name := missing_idle_timeout(alias):
            messages.append(
                checks.Warning(
                    f"The database {alias!r} has no {name}.",
                    hint="A worker that is cut off in a transaction keeps its row locks until the "
                    "server gives the connection up, which may take hours: docs/production.md.",
                    id="backbeat_celery.W021",
                )
            )
    return messages


@checks.register("backbeat_celery")
def check_transactions(**_: Any) -> list[checks.CheckMessage]:
    """Check that a view's signals can be part of the view's transaction."""
    from backbeat_celery.models import node_alias

    nodes = node_alias()
    return [
        checks.Warning(
            f"ATOMIC_REQUESTS is on for {alias!r}, but nodes are kept in {nodes!r}.",
            hint="A signal of a view is no part of the view's transaction: send it by "
            f"transaction.on_commit(..., using={alias!r}).",
            id="backbeat_celery.W022",
        )
        for alias in connections
        if alias != nodes and connections.settings[alias].get("ATOMIC_REQUESTS")
    ]


def _isolation(connection: Any) -> str | None:
    """Give the isolation level that the project set for a MySQL database."""
    level: str | None = connection.isolation_level
    return level


def _error(number: str, message: str, hint: str) -> checks.CheckMessage:
    return checks.Error(message, hint=hint, id=f"backbeat_celery.{number}")
