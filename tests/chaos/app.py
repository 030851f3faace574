"""The Celery app of a run: the tests' own, on the run's broker, with the harness's handlers."""

import os

from tests import services
from tests.celery_app import app

kind = services.broker_kind()
app.autodiscover_tasks(["tests.chaos"], related_name="handlers", force=True)
app.conf.update(
    # The tests' app may have been made before the run's broker was chosen.
    broker_url=os.environ[services.BROKER_URL],
    worker_enable_remote_control=kind != "embedded",
    broker_connection_max_retries=None,
    broker_transport_options={
        # Short, so that messages of killed workers are delivered again within the run.
        "redis": {"visibility_timeout": 20},
        "embedded": {"connect_args": {"timeout": 30}},
    }.get(kind, {}),
)
