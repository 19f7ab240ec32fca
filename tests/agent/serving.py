"""The real site over real HTTP on loopback, for programs in other processes; and the agent without Django.

The server's one thread works in the test's own transaction, so what it writes is undone with the test. A cut network
is a closed port.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from django.core.handlers.wsgi import WSGIHandler
from django.core.signals import request_finished, request_started
from django.db import close_old_connections, connection, connections

ROOT = Path(__file__).resolve().parents[2]
WITHOUT_DJANGO = """
import runpy, sys
for name in ("django", "rest_framework", "celery", "kombu", "psycopg", "web3", "ledger"):
    sys.modules[name] = None  # importing it raises ImportError
sys.argv[0] = "agent"
runpy.run_module("marketplace.agent", run_name="__main__", alter_sys=True)
"""


class _Quiet(WSGIRequestHandler):
    def log_message(self, *arguments: Any) -> None:
        pass


class _Reusing(WSGIServer):
    allow_reuse_address = True


class Site:
    """A site that can be cut off and come back at the same address."""

    def __init__(self) -> None:
        self._port = 0
        self._server: WSGIServer | None = None
        self._thread: Thread | None = None
        self.requests: list[str] = []
        self.loses_answers = False  # the work is done, and nobody hears of it
        self.up()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def up(self) -> None:
        """Listen."""
        server = _Reusing(("127.0.0.1", self._port), _Quiet)
        self._port, application, shared = server.server_port, WSGIHandler(), connections["default"]

        def counted(environ: dict[str, Any], start_response: Any) -> Any:
            self.requests.append(f"{environ['REQUEST_METHOD']} {environ['PATH_INFO']}")
            if not self.loses_answers:
                return application(environ, start_response)
            list(application(environ, lambda *head: None))
            start_response("502 Bad Gateway", [])
            return [b""]

        def serve() -> None:
            connections["default"] = shared
            server.serve_forever(poll_interval=0.02)

        server.set_app(counted)
        self._server, self._thread = server, Thread(target=serve)
        self._thread.start()

    def cut(self) -> None:
        """Refuse every connection from now on."""
        if self._server is not None and self._thread is not None:
            self._server.shutdown()
            self._thread.join()
            self._server.server_close()
            self._server = None


@contextmanager
def served() -> Iterator[Site]:
    """The site, until the block ends."""
    # A request closes a connection that is in a transaction; here the transaction is the test's.
    both = (request_started, request_finished)
    for each in both:
        each.disconnect(close_old_connections)
    connection.inc_thread_sharing()
    site = Site()
    try:
        yield site
    finally:
        site.cut()
        connection.dec_thread_sharing()
        for each in both:
            each.connect(close_old_connections)


def start(*words: object, **environment: str) -> subprocess.Popen[str]:
    """The agent in a process of its own, in which Django and its friends cannot be imported."""
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-c", WITHOUT_DJANGO, *map(str, words)],
        cwd=ROOT, env=os.environ | environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def agent(*words: object, status: int = 0, **environment: str) -> dict[str, Any]:
    """What a command printed: its answer, or its refusal where a status other than 0 is expected."""
    return told_by(start(*words, **environment), status=status)


def told_by(process: subprocess.Popen[str], *, status: int = 0) -> dict[str, Any]:
    """Like `agent`, of one that was started before."""
    out, err = process.communicate(timeout=60)
    assert process.returncode == status, err
    return json.loads(err if status else out)
