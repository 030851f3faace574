import os

# The projects of tests/neighbours have settings and apps of their own.
if os.environ.get("DJANGO_SETTINGS_MODULE", "tests.settings") == "tests.settings":
    from tests.celery_app import app as celery_app

    __all__ = ["celery_app"]
