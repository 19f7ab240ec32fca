"""The web process: `uvicorn marketplace.asgi:application`."""

from __future__ import annotations

import os

from django.core.asgi import get_asgi_application
from django.urls import get_resolver

from marketplace import postgres
from marketplace.environment import env_int


def wait_at_gate() -> None:
    """Wait until `up` closes its end of a pipe: it starts us while it still migrates, to save our import time."""
    gate = env_int("START_GATE_FD", default=-1)
    if gate >= 0:
        os.read(gate, 1)
        os.close(gate)


os.environ.setdefault("DJANGO_SETTINGS_MODULE", "marketplace.settings")
postgres.ensure_running()
application = get_asgi_application()
_ = get_resolver().url_patterns  # load the pages now: inside the first request their import would stop the event loop
wait_at_gate()
