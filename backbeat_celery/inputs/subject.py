"""The subject of a workflow: a business object or a string, kept as a string."""

from __future__ import annotations

from django.db.models import Model

from backbeat_celery.exceptions import BadSubject
from backbeat_celery.inputs.payload import is_storable

MAX_LENGTH = 255


def subject_key(subject: Model | str) -> str:
    """Give the string that stands for `subject`: itself, or `app_label.model:pk`.

    Raises BadSubject for an unsaved instance, an empty or too long string, and anything else.
    """
    if isinstance(subject, Model):
        if subject.pk is None or subject._state.adding:
            raise BadSubject(
                f"The {subject._meta.verbose_name} is not saved yet, so no workflow can be "
                "about it: save it first."
            )
        model = subject._meta.concrete_model or type(subject)
        subject = f"{model._meta.label_lower}:{subject.pk}"
    if not isinstance(subject, str):
        raise BadSubject(
            f"A subject is a model instance or a string, not {type(subject).__name__}."
        )
    if not subject or len(subject) > MAX_LENGTH or not is_storable(subject):
        raise BadSubject(
            f"A subject has 1 to {MAX_LENGTH} characters and no NUL; this one has {len(subject)}."
        )
    return subject
