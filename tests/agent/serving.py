"""The real site over real HTTP on loopback, for programs in other processes; and the agent without Django.

The server's one thread works in the test's own transaction, so what it writes is undone with the test. A cut network
is a closed port, which nobody else is given meanwhile.
"""

from __future__ import annotations

import json
import os
import socket
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
if sys.argv[1] in ("benchmark", "verify"):
    from pricing import residency
    residency.READ_MARGIN_NS = 30 * 10**9  # as in the fixture `unhurried`
for name in ("django", "rest_framework", "celery", "kombu", "psycopg", "web3", "ledger"):
    sys.modules[name] = None  # importing it raises ImportError
sys.argv[0] = "agent"
runpy.run_module("marketplace.agent", run_name="__main__", alter_sys=True)
"""


class _Quiet(WSGIRequestHandler):
    def log_message(self, *arguments: Any) -> None:
        pass


class ClosedPort:
    """A port of this machine that takes no connection, and that nobody else is given while it is held.

    Who merely closes a port may find it again in another program's hands.
    """

    def __init__(self) -> None:
        self._held = socket.socket()
        self._held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # so that a server of ours may listen there
        self._held.bind(("127.0.0.1", 0))
        self.number = int(self._held.getsockname()[1])

    def let_go(self) -> None:
        """Hold it no longer."""
        self._held.close()


class Site:
    """A site that can be cut off and come back at the same address."""

    def __init__(self) -> None:
        self._port = ClosedPort()
        self._server: WSGIServer | None = None
        self._thread: Thread | None = None
        self.requests: list[str] = []
        self.done: list[str] = []  # those that were answered with 2xx
        self.loses_answers = False  # the work is done, and nobody hears of it
        self.up()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port.number}"

    def up(self) -> None:
        """Listen."""
        server = WSGIServer(("127.0.0.1", self._port.number), _Quiet)
        application, shared = WSGIHandler(), connections["default"]

        def counted(environ: dict[str, Any], start_response: Any) -> Any:
            asked = f"{environ['REQUEST_METHOD']} {environ['PATH_INFO']}"
            self.requests.append(asked)

            def noted(status: str, *more: Any) -> Any:
                self.done += [asked] if status.startswith("2") else []
                return start_response(status, *more)

            if not self.loses_answers:
                return application(environ, noted)
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

    def end(self) -> None:
        """Refuse every connection, for good."""
        self.cut()
        self._port.let_go()


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
        site.end()
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
    out, err = process.communicate(timeout=300)
    assert process.returncode == status, err
    return json.loads(err if status else out)
