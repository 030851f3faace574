"""Templates for subjects and keys, such as "report {date}".

The namespace is fixed and there is no way from a name to anything else: no attributes, no
items, no conversions, and a format for `{now:...}` alone.
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
"""What each name stands for; `now` and `schedule` come in `render`."""

LONGEST = 255
_FORMAT = re.compile(r"(?:[^%{}]|%[A-Za-z%])*")


def render(template: str, what: str, moment: datetime, schedule: str) -> str:
    """Fill in a template, or raise BadInput that names `what` and the remedy.

    `moment` is in the time zone whose dates are meant, `schedule` the name of the schedule.
    """
    if not isinstance(template, str) or len(template) > LONGEST:
        raise BadInput(f"The {what} is a template of at most {LONGEST} characters.")
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
        raise BadInput(f"{{{name}}} takes no format; for one of your own, write {{now:%Y-%m-%d}}.")
    if name == "schedule":
        return schedule
    if name not in NAMES:
        known = ", ".join([*NAMES, "schedule", "now:%Y-%m-%d"])
        raise BadInput(f"A template knows no {{{name}}}; it knows {known}.")
    return NAMES[name](moment)


def _now(spec: str, moment: datetime) -> str:
    if not _FORMAT.fullmatch(spec):
        raise BadInput(f"{{now:{spec}}} has a format that strftime() may not be able to read.")
    return moment.strftime(spec) if spec else NAMES["minute"](moment)
