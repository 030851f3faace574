"""Serve the project by a WSGI server, as a web process does: `python -m house.serve`."""

import os
from wsgiref.simple_server import WSGIRequestHandler, make_server

from django.core.wsgi import get_wsgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "house.settings")


class Quiet(WSGIRequestHandler):
    """Logs no request."""

    def log_message(self, *_):
        pass


with make_server("127.0.0.1", 0, get_wsgi_application(), handler_class=Quiet) as server:
    print(server.server_port, flush=True)
    server.serve_forever()
