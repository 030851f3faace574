"""The documentation site: `tox run -e docs`, then open docs/_build/html/index.html."""

import os
import sys
from pathlib import Path

import django
from django.conf import settings

sys.path.insert(0, str(Path(__file__).parent / "_ext"))

os.environ["COLUMNS"] = "88"  # the width of the commands' help texts

settings.configure(
    SECRET_KEY="docs",
    USE_TZ=True,
    DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
    INSTALLED_APPS=[
        "django.contrib.admin",
        "django.contrib.auth",
        "django.contrib.contenttypes",
        "django.contrib.messages",
        "django.contrib.sessions",
        "django_celery_beat",
        "backbeat_celery",
    ],
)
django.setup()

import backbeat_celery  # noqa: E402

project = "backbeat-celery"
author = "the authors of backbeat-celery"
copyright = author
release = version = backbeat_celery.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "backbeat_docs"]
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = f"{project} {release}"
html_show_sphinx = False

# Headings are linked by the anchors that GitHub gives them; a wrong one is a warning.
myst_heading_anchors = 4
myst_links_external_new_tab = False

# Docstrings put code between single backticks.
default_role = "code"
add_module_names = False
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
python_use_unqualified_type_names = True

# References that we write are checked. Types in signatures are not all documented here.
nitpicky = True
nitpick_ignore_regex = [("py:(class|obj|data)", r"(?!backbeat_celery\.(models|exceptions)\.).*")]
