"""The forms of actions: a reason, a signal, new arguments."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from fnmatch import fnmatchcase
from typing import Any

from celery import current_app
from django import forms
from django.core.exceptions import NON_FIELD_ERRORS
from django.utils.crypto import salted_hmac
from django.utils.translation import gettext_lazy as _
from kombu.utils import json as kombu_json

from backbeat_celery.admin.planned import outline, tasks_in
from backbeat_celery.conf import settings
from backbeat_celery.exceptions import BackbeatError
from backbeat_celery.inputs import payload
from backbeat_celery.inputs.canvas import signature_of, task_spec
from backbeat_celery.inputs.node_spec import NodeSpec, registered_task
from backbeat_celery.inputs.redaction import given_arguments, redact_args, redact_kwargs
from backbeat_celery.inputs.task_registry import load_tasks
from backbeat_celery.states import Mode
from backbeat_celery.verbs.arguments import digest, merged

DEEPEST = 32
"""Levels of nested JSON that a form accepts."""

DEEPEST_CANVAS = 128
"""Those of a canvas, which has three for each canvas in it."""


class ReasonForm(forms.Form):
    """Asks for a reason, which is stored in the history."""

    outline = ""
    """What will be started, to be shown."""

    asks_again = False
    """Whether that is to be shown before anything is done, although the data are valid."""

    reason = forms.CharField(
        label=_("Reason"),
        required=False,
        max_length=200,
        widget=forms.TextInput(attrs={"class": "vTextField", "autocomplete": "off"}),
        help_text=_("Stored in the history, with your name."),
    )

    def __init__(
        self,
        *args: Any,
        target: Any = None,
        may: Callable[[str], bool] = lambda permission: False,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self.target = target
        self.may = may
        # The reason comes last.
        self.order_fields([name for name in self.fields if name != "reason"] + ["reason"])


class RequiredReasonForm(ReasonForm):
    """Requires a reason."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["reason"].required = True


class PayloadField(forms.CharField):
    """JSON of one type, or of any, decoded as Celery does."""

    widget = forms.Textarea

    def __init__(self, kind: type | None = None, deepest: int = DEEPEST, **kwargs: Any) -> None:
        self.kind, self.deepest = kind, deepest
        attrs = {"class": "vLargeTextField bb-json", "rows": 5, "spellcheck": "false"}
        super().__init__(required=False, widget=forms.Textarea(attrs=attrs), **kwargs)

    def to_python(self, value: Any) -> Any:
        text = (super().to_python(value) or "").strip()
        if not text:
            return None if self.kind is None else self.kind()
        try:
            found = kombu_json.loads(text)
        except Exception as exc:  # also what kombu's decoders raise
            raise forms.ValidationError(_("This is not JSON: %s") % exc) from exc
        if self.kind is not None and not isinstance(found, self.kind):
            name = _("a list") if self.kind is list else _("an object")
            raise forms.ValidationError(_("Write %s.") % name)
        if _depth(found, self.deepest) > self.deepest:
            raise forms.ValidationError(_("This is nested too deeply."))
        return found


def _depth(value: Any, limit: int) -> int:
    deepest, rest = 0, [(value, 1)]
    while rest:
        item, level = rest.pop()
        deepest = max(deepest, level)
        if deepest > limit:
            break
        if isinstance(item, dict):
            item = list(item.values())
        if isinstance(item, list):
            rest += [(inner, level + 1) for inner in item]
    return deepest


class ResolveForm(RequiredReasonForm):
    """Takes the result that the node's handler would have given."""

    result = PayloadField(
        label=_("Result"),
        help_text=_('JSON, such as 703 or {"receipt": 7}; empty for none.'),
    )

    def clean_result(self) -> Any:
        result = self.cleaned_data["result"]
        try:
            payload.encode(result, "The result")
        except BackbeatError as exc:
            raise forms.ValidationError(str(exc)) from exc
        return result


class SignalForm(ReasonForm):
    """Describes a signal: a registered task and its arguments, or a canvas; and its options.

    A canvas is first shown as the tree that it will be, and sent when it comes again unchanged.
    """

    task = forms.ChoiceField(label=_("Task"), required=False)
    args = PayloadField(
        list, label=_("Arguments"), help_text=_('A JSON list, such as [703, "express"].')
    )
    kwargs = PayloadField(
        dict, label=_("Keyword arguments"), help_text=_('A JSON object, such as {"number": 703}.')
    )
    canvas = PayloadField(
        dict,
        deepest=DEEPEST_CANVAS,
        label=_("Canvas"),
        help_text=_(
            "In place of a task and its arguments: a signature of Celery as JSON, as "
            "json.dumps(chord(...)) gives it. What it will start is shown before it is sent."
        ),
    )
    seen = forms.CharField(required=False, widget=forms.HiddenInput)
    mode = forms.ChoiceField(label=_("Mode"), choices=Mode.choices, initial=Mode.BLOCKING)
    key = forms.CharField(
        label=_("Key"),
        required=False,
        max_length=255,
        widget=forms.TextInput(attrs={"class": "vTextField"}),
        help_text=_("In this run, a second signal with the same key adds no node."),
    )
    delay = forms.FloatField(
        label=_("Delay"), required=False, min_value=0, help_text=_("Seconds before it may run.")
    )
    close = forms.BooleanField(
        label=_("Close"),
        required=False,
        help_text=_("The workflow takes no signal after this one. This cannot be undone."),
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["reason"].help_text = _("Stored in the admin's log, with your name.")
        if not self.may("close"):
            del self.fields["close"]
        field: Any = self.fields["task"]
        field.choices = [("", "---------"), *((name, name) for name in task_names())]

    def clean(self) -> dict[str, Any]:
        data: dict[str, Any] = super().clean() or {}
        if self.errors:
            return data
        options = {
            "mode": data["mode"],
            "key": data["key"] or None,
            "delay": data["delay"],
        }
        try:
            signature = self._signature(data)
            spec = task_spec(signature, **options)
        except BackbeatError as exc:
            where = "canvas" if data["canvas"] else NON_FIELD_ERRORS
            raise forms.ValidationError({where: str(exc)}) from exc
        if data["canvas"]:
            _refuse_hidden(spec)
            self._show(spec)
        options["close"] = data.get("close", False)
        return {**data, "signature": signature, "options": options}

    def _signature(self, data: dict[str, Any]) -> Any:
        """Give what is to be sent, a call of the task or the canvas; exactly one is given."""
        if data["canvas"]:
            if data["task"] or data["args"] or data["kwargs"]:
                told = _("Give a task with its arguments or a canvas, not both.")
                raise forms.ValidationError({"canvas": told})
            return signature_of(data["canvas"])
        if not data["task"]:
            raise forms.ValidationError({"task": _("Choose a task, or give a canvas.")})
        return registered_task(data["task"]).s(*data["args"], **data["kwargs"])

    def _show(self, spec: NodeSpec) -> None:
        """Show what will be started, unless that was done, and the canvas is still the same."""
        self.outline = outline(spec)
        sent: Any = self.data
        seen = salted_hmac("backbeat_celery.admin.forms", sent["canvas"]).hexdigest()
        self.asks_again = self.cleaned_data["seen"] != seen
        self.data = {**sent.dict(), "seen": seen}  # what the page sends next time


def _refuse_hidden(spec: NodeSpec) -> None:
    """Refuse a canvas with a task anywhere in it that cannot be signalled by itself."""
    if refused := sorted(tasks_in(spec) - set(task_names())):
        told = _("Not to be signalled from the admin: %s.") % ", ".join(refused)
        raise forms.ValidationError({"canvas": told})


def task_names() -> Iterator[str]:
    """Give the tasks that can be signalled: those of the project that `ADMIN_TASKS` allows."""
    load_tasks()
    allowed = settings.admin_tasks
    for name in sorted(current_app.tasks):
        is_projects = not name.startswith(("celery.", "backbeat."))
        if is_projects and (allowed is None or matches(name, allowed)):
            yield name


def matches(name: str, patterns: Iterable[str]) -> bool:
    """Tell whether a task's name matches one of these patterns."""
    return any(fnmatchcase(name, pattern) for pattern in patterns)


class ArgumentsForm(ReasonForm):
    """New arguments for a node; a hidden value is shown as a mark, and is kept if that is kept."""

    args = PayloadField(list, label=_("Arguments"))
    kwargs = PayloadField(
        dict,
        label=_("Keyword arguments"),
        help_text=_("••• stands for a hidden value; leave it to keep the value."),
    )
    seen = forms.CharField(widget=forms.HiddenInput)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        node = self.target
        self.initial.update(
            args=_text(redact_args(node.task, node.args, given=given_arguments(node))),
            kwargs=_text(redact_kwargs(node.task, node.kwargs)),
            seen=digest(node),
        )

    def clean(self) -> dict[str, Any]:
        data: dict[str, Any] = super().clean() or {}
        if not self.errors:
            try:
                merged(self.target, data["args"], data["kwargs"])
            except BackbeatError as exc:
                raise forms.ValidationError(str(exc)) from exc
        return data


def _text(value: Any) -> str:
    return json.dumps(json.loads(kombu_json.dumps(value)), indent=2, ensure_ascii=False)
