"""Serve the demo's admin on this machine: `python -m demo_project.web [port]`."""

from __future__ import annotations

import os
import sys
from socketserver import ThreadingMixIn
from wsgiref.simple_server import WSGIServer, make_server

PORT = 8000


class Server(ThreadingMixIn, WSGIServer):
    """Answers several browsers at once; none keeps the process from ending."""

    daemon_threads = True


def main(port: int) -> None:
    """Serve the admin and its static files until the process is ended."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "demo_project.settings")
    from django.contrib.staticfiles.handlers import StaticFilesHandler
    from django.core.wsgi import get_wsgi_application

    application = StaticFilesHandler(get_wsgi_application())
    from demo_project.shop.demo import orphans

    orphans.watch()
    try:
        server = make_server("127.0.0.1", port, application, Server)
    except OSError:  # the port is taken: use any free one
        server = make_server("127.0.0.1", 0, application, Server)
    print(f"serving http://127.0.0.1:{server.server_port}/admin/", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else PORT)
