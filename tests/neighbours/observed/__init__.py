"""A project with Sentry, OpenTelemetry, structlog, Flower, results, batches and singletons."""
