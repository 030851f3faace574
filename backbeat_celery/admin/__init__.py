"""Workflows and nodes in the Django admin: lists, pages, actions and an overview."""

from backbeat_celery.admin.nodes import NodeAdmin
from backbeat_celery.admin.subject import BackbeatSubjectMixin
from backbeat_celery.admin.workflows import WorkflowAdmin

__all__ = ["BackbeatSubjectMixin", "NodeAdmin", "WorkflowAdmin"]
