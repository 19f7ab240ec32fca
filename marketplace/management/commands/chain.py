"""`manage.py chain`: the embedded chain over JSON-RPC on this machine, for wallets and scripts. Ends with Ctrl-C."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from ledger.rails import evm
from ledger.rails.http_door import HOST, serve


class Command(BaseCommand):
    """Serve the embedded chain over HTTP on loopback."""

    help = "Serve the embedded chain's JSON-RPC on 127.0.0.1; nothing of the market needs it."
    requires_system_checks = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--port", type=int, default=8545, help="port on 127.0.0.1 (8545); 0 takes a free one")

    def handle(self, *args: Any, port: int, **options: Any) -> None:
        embedded = evm.chain().embedded
        if embedded is None:
            raise CommandError("CHAIN_URL names a node: ask it directly.")
        try:
            server = serve(embedded, port)
        except (OSError, OverflowError) as error:
            raise CommandError(f"Port {port} on {HOST} cannot be opened: {error}.") from error
        self.stdout.write(f"The embedded chain answers at http://{HOST}:{server.server_port}, to this machine only.")
        self.stdout.flush()
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            self.stdout.write("The door is closed; the chain goes on without it.")
        finally:
            server.server_close()
            evm.close_all()
