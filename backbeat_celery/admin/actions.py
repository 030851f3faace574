"""The actions of the admin: one description for each verb, used by pages and lists."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from django import forms
from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

from backbeat_celery.admin.forms import (
    ArgumentsForm,
    ReasonForm,
    RequiredReasonForm,
    ResolveForm,
    SignalForm,
)
from backbeat_celery.models import Node, Workflow
from backbeat_celery.states import UNFINISHED, Status
from backbeat_celery.verbs.arguments import edit_and_retry

Text = str | Promise


@dataclass(frozen=True, slots=True)
class Action:
    """A verb as the admin offers it.

    `refuse` gives the reason why an object cannot take the action, or an empty text. `call` gets
    the object, the user and the cleaned data of the form.
    """

    name: str
    label: Text
    many: Text
    done: Text
    explains: Text
    refuse: Callable[[Any], Text]
    call: Callable[[Any, Any, dict[str, Any]], Any]
    form: type[forms.Form] = ReasonForm
    preview: str = ""
    is_drastic: bool = False
    is_bulk: bool = True
    deletes: bool = False

    @property
    def permission(self) -> str:
        """The permission's codename without the model."""
        return self.name


def verb(name: str) -> Callable[[Any, Any, dict[str, Any]], Any]:
    """Call the public method of that name."""

    def call(obj: Any, user: Any, data: dict[str, Any]) -> Any:
        return getattr(obj, name)(by=user, reason=data["reason"])

    return call


def _takes(*statuses: Status) -> Callable[[Node], Text]:
    """Refuse nodes with any other status."""

    def refuse(node: Node) -> Text:
        if node.is_root:
            return _("it is the root of its workflow")
        if node.status in statuses:
            return ""
        return _("it is %s") % Status(node.status).label

    return refuse


def _unfinished(node: Node) -> Text:
    return _takes(*UNFINISHED)(node)


def _pausable(workflow: Workflow) -> Text:
    if workflow.unfinished is None:
        return _("it is finished")
    return _("it is paused already") if workflow.paused_at else ""


def _resumable(workflow: Workflow) -> Text:
    return "" if workflow.paused_at and workflow.unfinished else _("it is not paused")


def _closable(workflow: Workflow) -> Text:
    return _("it is closed already") if workflow.closed_at else ""


def _open(workflow: Workflow) -> Text:
    return "" if workflow.unfinished else _("it is finished")


def _always(workflow: Workflow) -> Text:
    return ""


def _send(workflow: Workflow, user: Any, data: dict[str, Any]) -> Node:
    return workflow.signal(data["signature"], **data["options"])


def _resolve(node: Node, user: Any, data: dict[str, Any]) -> None:
    node.resolve(data["result"], by=user, reason=data["reason"])


def _delete(workflow: Workflow, user: Any, data: dict[str, Any]) -> None:
    workflow.delete(by=user, reason=data["reason"])


NODE_ACTIONS: Mapping[str, Action] = {
    action.name: action
    for action in (
        Action(
            name="retry",
            label=_("Retry"),
            many=_("Retry selected nodes"),
            done=_("Retried"),
            explains=_(
                "A new attempt starts now. Children of earlier attempts are canceled. The retry "
                "count stays as it is."
            ),
            refuse=_takes(Status.FAILED, Status.RETRYING),
            call=verb("retry"),
            preview="retry",
        ),
        Action(
            name="edit_arguments",
            label=_("Edit arguments and retry"),
            many=_("Edit arguments and retry"),
            done=_("Edited and retried"),
            explains=_(
                "The node gets new arguments, and a new attempt starts now. Children of earlier "
                "attempts are canceled."
            ),
            refuse=_takes(Status.FAILED, Status.RETRYING),
            call=edit_and_retry,
            form=ArgumentsForm,
            preview="edit_arguments",
            is_bulk=False,
        ),
        Action(
            name="resolve",
            label=_("Resolve"),
            many=_("Resolve selected nodes"),
            done=_("Resolved"),
            explains=_(
                "The node becomes complete although its handler failed. Nodes that wait for it "
                "continue; those that take its result as input get the one that is given here."
            ),
            refuse=_takes(Status.FAILED),
            call=_resolve,
            form=ResolveForm,
            preview="resolve",
        ),
        Action(
            name="shutdown",
            label=_("Shut down"),
            many=_("Shut selected nodes down"),
            done=_("Shut down"),
            explains=_(
                "The node becomes complete, and the nodes that wait for it are canceled with "
                "their subtrees: all later siblings if it is blocking, otherwise the first "
                "barrier behind it and all siblings behind that."
            ),
            refuse=_takes(Status.FAILED),
            call=verb("shutdown"),
            form=RequiredReasonForm,
            preview="shutdown",
            is_drastic=True,
        ),
        Action(
            name="reset",
            label=_("Reset"),
            many=_("Reset selected nodes"),
            done=_("Reset"),
            explains=_("Everything below the node is canceled; the node itself continues."),
            refuse=_unfinished,
            call=verb("reset"),
            form=RequiredReasonForm,
            preview="reset",
            is_drastic=True,
        ),
        Action(
            name="cancel",
            label=_("Cancel"),
            many=_("Cancel selected nodes"),
            done=_("Canceled"),
            explains=_(
                "The node is canceled with its subtree; its siblings continue. A running handler "
                "is not stopped, but its result is discarded."
            ),
            refuse=_unfinished,
            call=verb("cancel"),
            form=RequiredReasonForm,
            preview="cancel",
            is_drastic=True,
        ),
    )
}

WORKFLOW_ACTIONS: Mapping[str, Action] = {
    action.name: action
    for action in (
        Action(
            name="signal",
            label=_("Send a signal"),
            many=_("Send a signal to selected workflows"),
            done=_("Signalled"),
            explains=_(
                "A node that runs the task with these arguments, or the whole of a canvas, is "
                "added after the workflow's other signals."
            ),
            refuse=_closable,
            call=_send,
            form=SignalForm,
        ),
        Action(
            name="pause",
            label=_("Pause"),
            many=_("Pause selected workflows"),
            done=_("Paused"),
            explains=_(
                "No new node starts. Running handlers continue, and their results are accepted."
            ),
            refuse=_pausable,
            call=verb("pause"),
        ),
        Action(
            name="resume",
            label=_("Resume"),
            many=_("Resume selected workflows"),
            done=_("Resumed"),
            explains=_("The workflow continues. Nodes that became due meanwhile run at once."),
            refuse=_resumable,
            call=verb("resume"),
            preview="resume",
        ),
        Action(
            name="close",
            label=_("Close"),
            many=_("Close selected workflows"),
            done=_("Closed"),
            explains=_(
                "The workflow takes no more signals, and is finished when all nodes that count "
                "are. This cannot be undone. A later signal opens the next run."
            ),
            refuse=_closable,
            call=verb("close"),
        ),
        Action(
            name="cancel",
            label=_("Cancel everything"),
            many=_("Cancel everything in selected workflows"),
            done=_("Canceled"),
            explains=_(
                "Every unfinished node is canceled; the workflow stays open for signals. Running "
                "handlers are not stopped, but their results are discarded."
            ),
            refuse=_open,
            call=verb("cancel"),
            form=RequiredReasonForm,
            preview="cancel_workflow",
            is_drastic=True,
        ),
        Action(
            name="delete",
            label=_("Delete"),
            many=_("Delete selected workflows"),
            done=_("Deleted"),
            explains=_(
                "Unfinished nodes are canceled, and the workflow is deleted with all its nodes "
                "and their history. This cannot be undone."
            ),
            preview="cancel_workflow",
            refuse=_always,
            call=_delete,
            form=RequiredReasonForm,
            is_drastic=True,
            deletes=True,
        ),
    )
}
