"""A small project as its users set it up; the environment says what of it is missing."""

import os

if os.environ.get("HOUSE_FORGETS") != "celery":
    from house.celery import app as celery_app

    __all__ = ["celery_app"]
