"""Run the sandbox: `python -m ledger.rails.stripe_sandbox --port 8010 --webhook http://127.0.0.1:8000/webhooks/stripe/`."""

from __future__ import annotations

import argparse
import os
import signal
from threading import Event, Thread
from types import FrameType


def main() -> None:
    """Serve on loopback until a signal comes. The first line printed is the address."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    parser.add_argument("--webhook", default="", help="where events are sent; empty sends none")
    asked = parser.parse_args()
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "marketplace.settings")
    import django

    django.setup()
    from django.conf import settings

    from ledger.rails.evm import connection_fields
    from ledger.rails.stripe_sandbox.server import make_server
    from ledger.rails.stripe_sandbox.store import Store
    from ledger.rails.stripe_sandbox.webhooks import send_webhooks

    store = Store(connection_fields())
    server = make_server(store, port=asked.port, webhook_secret=settings.STRIPE_WEBHOOK_SECRET)
    stop = Event()

    def end(number: int, frame: FrameType | None) -> None:
        stop.set()
        Thread(target=server.shutdown, daemon=True).start()

    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGINT, end)
    if asked.webhook:
        facts = {"url": asked.webhook, "secret": settings.STRIPE_WEBHOOK_SECRET, "stop": stop}
        Thread(target=send_webhooks, args=(store,), kwargs=facts, daemon=True).start()
    print(f"http://127.0.0.1:{server.server_address[1]}", flush=True)
    server.serve_forever(poll_interval=0.1)
    server.server_close()
    store.close()


if __name__ == "__main__":
    main()
