"""The project's Celery app, with what its users install beside it: in web process and worker."""

from __future__ import annotations

import os
from typing import Any

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.neighbours.observed.settings")

import sentry_sdk
from celery import Celery
from django_structlog.celery.steps import DjangoStructLogInitStep
from opentelemetry import trace
from opentelemetry.instrumentation.celery import CeleryInstrumentor
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter, SpanExportResult
from sentry_sdk.envelope import Envelope
from sentry_sdk.integrations.celery import CeleryIntegration
from sentry_sdk.transport import Transport

from tests.neighbours.base import note


class FileTransport(Transport):
    """Writes errors into a file in place of sending them to Sentry."""

    def capture_envelope(self, envelope: Envelope) -> None:
        event = envelope.get_event()
        if event is not None:
            note("sentry", **event)


class FileExporter(SpanExporter):
    """Writes spans into a file."""

    def export(self, spans: Any) -> SpanExportResult:
        for span in spans:
            note("spans", **described(span))
        return SpanExportResult.SUCCESS


def described(span: ReadableSpan) -> dict[str, Any]:
    context = span.get_span_context()
    attributes = dict(span.attributes or {})
    return {
        "name": span.name,
        "trace": f"{context.trace_id:032x}" if context else "",
        "id": attributes.get("messaging.message.id") or attributes.get("messaging.message_id"),
        "state": attributes.get("celery.state"),
    }


sentry_sdk.init(
    dsn="http://key@127.0.0.1/1",
    transport=FileTransport,
    integrations=[CeleryIntegration()],
    traces_sample_rate=1,
    data_collection={"queues": True},
)
provider = TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(FileExporter()))
trace.set_tracer_provider(provider)

app = Celery("observed")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks(["backbeat_celery", "tests.neighbours.observed"])
app.steps["worker"].add(DjangoStructLogInitStep)
CeleryInstrumentor().instrument()  # type: ignore[no-untyped-call]
