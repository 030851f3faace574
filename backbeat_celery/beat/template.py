"""Templates for subjects and keys, such as "report {date}".

Only the names below can be used. There are no attributes, items or conversions, and only
`{now:...}` takes a format.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import datetime
from string import Formatter
from types import MappingProxyType

from backbeat_celery.exceptions import BadInput

NAMES: Mapping[str, Callable[[datetime], str]] = MappingProxyType(
    {
        "date": lambda moment: moment.strftime("%Y-%m-%d"),
        "week": lambda moment: "{0.year}-W{0.week:02d}".format(moment.isocalendar()),
        "month": lambda moment: moment.strftime("%Y-%m"),
        "year": lambda moment: str(moment.year),
        "hour": lambda moment: moment.strftime("%Y-%m-%dT%H"),
        "minute": lambda moment: moment.strftime("%Y-%m-%dT%H:%M"),
    }
)
"""The value of each name; `render` adds `now` and `schedule`."""

LONGEST = 255
_FORMAT = re.compile(r"(?:[^%{}]|%[A-Za-z%])*")


def render(template: str, what: str, moment: datetime, schedule: str) -> str:
    """Fill in a template; raise BadInput, with a hint, if it cannot be used.

    `what` names the argument in errors. `moment` is in the time zone for dates, `schedule` is
    the name of the schedule.
    """
    if not isinstance(template, str) or len(template) > LONGEST:
        raise BadInput(f"The {what} must be a template of at most {LONGEST} characters.")
    try:
        parts = list(Formatter().parse(template))
    except ValueError as exc:
        raise BadInput(
            f"The {what} {template!r} is not a template: {exc}. Write {{{{ and }}}} for braces."
        ) from exc
    return "".join(
        literal + ("" if name is None else _value(name, spec or "", conversion, moment, schedule))
        for literal, name, spec, conversion in parts
    )


def _value(name: str, spec: str, conversion: str | None, moment: datetime, schedule: str) -> str:
    if conversion:
        raise BadInput(f"A template takes no conversion: write {{{name}}} without !{conversion}.")
    if name == "now":
        return _now(spec, moment)
    if spec:
        raise BadInput(f"{{{name}}} takes no format; for your own, use {{now:%Y-%m-%d}}.")
    if name == "schedule":
        return schedule
    if name not in NAMES:
        known = ", ".join([*NAMES, "schedule", "now:%Y-%m-%d"])
        raise BadInput(f"A template has no {{{name}}}; it has {known}.")
    return NAMES[name](moment)


def _now(spec: str, moment: datetime) -> str:
    if not _FORMAT.fullmatch(spec):
        raise BadInput(f"{{now:{spec}}} has a format that strftime() may not accept.")
    return moment.strftime(spec) if spec else NAMES["minute"](moment)
