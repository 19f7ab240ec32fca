"""`manage.py up`: everything, in one folder of this machine, until Ctrl-C."""

from __future__ import annotations

import contextlib
import http.client
import os
import shutil
import signal
import socket
import sys
import time
from argparse import ArgumentParser
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError
from django.db import OperationalError, connection

from marketplace import clock, postgres
from marketplace.environment import CHECKOUT, env_int, env_str
from marketplace.management.progress import ProgressPrinter
from marketplace.supervisor import AlreadyRunning, Supervisor

HOST = "127.0.0.1"  # never another address: the demo's logins are printed
FIRST_PAGE_SECONDS_MAX = 180  # six seconds on a quiet machine; a site that dies is reported at once
LOOK_SECONDS = 0.5


class Command(BaseCommand):
    """Serve the market with everything it needs."""

    help = "Start PostgreSQL, the chain, the worker, the clock and the site on 127.0.0.1; build the demo world."
    requires_system_checks = []  # the site itself runs them; here they cost two seconds before the first page

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--port", type=int, default=8000, help="port of the site (default 8000)")
        parser.add_argument("--fresh", action="store_true", help="drop the embedded database first")
        parser.add_argument("--no-world", action="store_true", help="do not build the demo world nor a market turn")

    def handle(self, *args: Any, port: int, fresh: bool, no_world: bool, **options: Any) -> None:
        began_at = time.monotonic()
        url = f"http://{HOST}:{port}/"
        supervisor = Supervisor(settings.DATA_DIR, say=self.tell)
        with contextlib.ExitStack() as ending:
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                ending.callback(signal.signal, number, signal.signal(number, self.on_signal))
            try:
                supervisor.claim(url=url)
            except AlreadyRunning as other:
                self.tell_running(other.record)
                return
            ending.callback(self.end, supervisor)
            refuse_busy_port(port)
            try:
                self.serve(supervisor, port, fresh=fresh)
                self.tell(f"Grove Exchange is up after {time.monotonic() - began_at:.1f} s:  {url}")
                self.tell_logins()
                self.tell(f"Logs and data: {settings.DATA_DIR}   Ctrl-C stops everything.")
                self.work(supervisor, port)
                self.stay(supervisor, with_world=not no_world)
            except KeyboardInterrupt:
                self.tell("Stopping.")

    def serve(self, supervisor: Supervisor, port: int, *, fresh: bool) -> None:
        """Bring up the site. It loads while the tables are made, and waits for them at a gate."""
        if fresh:
            self.start_anew()
        self.choose_card_sandbox()
        gate, go = os.pipe()
        supervisor.start("web", web_command(port), gate=gate, DATABASE_POOL_MAX="20")
        os.close(gate)
        try:
            call_command("migrate", interactive=False, verbosity=0)
        finally:
            os.close(go)
        wait_for_first_page(supervisor, port)

    def choose_card_sandbox(self) -> None:
        """Without a key of Stripe's, and without a sandbox somebody else runs, take a free port for our own."""
        self.runs_sandbox = not settings.STRIPE_API_KEY and not env_str("STRIPE_SANDBOX_URL")
        if self.runs_sandbox:
            with socket.socket() as probe:
                probe.bind((HOST, 0))
                settings.STRIPE_SANDBOX_URL = f"http://{HOST}:{probe.getsockname()[1]}"
            os.environ["STRIPE_SANDBOX_URL"] = settings.STRIPE_SANDBOX_URL  # for the servers below

    def work(self, supervisor: Supervisor, port: int) -> None:
        """Bring up what works behind the site: the chain with its contracts, the card sandbox, the worker, the beat."""
        from ledger.rails.deploy import ensure_deployed
        from marketplace.escrow.cards import ensure_float

        self.tell("Chain and contracts.")
        ensure_deployed(clock.now())
        if settings.DEMO:
            ensure_float(now=clock.now())
        if self.runs_sandbox:
            supervisor.start("cards", sandbox_command(port))
            self.tell(f"Card sandbox: {settings.STRIPE_SANDBOX_URL} (no money moves)")
        if not settings.BROKER_URL:
            shutil.rmtree(settings.QUEUE_DIR, ignore_errors=True)  # hints of a dead run; the outbox is the truth
        supervisor.start("worker", celery_command("worker", *WORKER_HABITS), DATABASE_POOL_MAX="10")
        supervisor.start("beat", celery_command("beat", "--pidfile="))
        self.tell("Worker is up, beat is up.")

    def start_anew(self) -> None:
        """Drop the embedded database and make it again, empty."""
        if not postgres.is_embedded():
            raise CommandError("--fresh drops the embedded database only; DATABASE_URL is set, so nothing was dropped.")
        connection.close()
        postgres.drop_database(postgres.database_name())
        postgres.create_database(postgres.database_name())
        self.tell("Database dropped.")

    def stay(self, supervisor: Supervisor, *, with_world: bool) -> None:
        """Look after the servers and print what the worker reports, until a signal comes."""
        with ProgressPrinter(self.stdout) as printer:
            if with_world:
                from marketplace.demo.story import enqueue_first_step

                enqueue_first_step()
            while True:
                supervisor.watch()
                try:
                    printer.look()
                except OperationalError:
                    connection.close()
                    self.tell("The database went away; starting it again.")
                    postgres.ensure_running()
                time.sleep(LOOK_SECONDS)

    def tell_logins(self) -> None:
        """Print one login per role."""
        from marketplace.demo.logins import ensure_logins

        for login in ensure_logins():
            self.tell(f"  {login.role:<20} {login.email:<24} {login.password:<18} {login.path}")

    def tell_running(self, record: dict[str, Any]) -> None:
        """Say what the other `up` of this folder runs."""
        self.tell(f"Already up since {record.get('since', 'a moment ago')}:  {record.get('url', '')}")
        self.tell(f"  {'up':<8} pid {record.get('pid', '?')}")
        for name, process in record.get("processes", {}).items():
            self.tell(f"  {name:<8} pid {process['pid']}")

    def end(self, supervisor: Supervisor) -> None:
        """Stop the servers; PostgreSQL follows when this process leaves as its last user."""
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)  # it takes seconds, and half an ending is worse
        supervisor.stop()
        connection.close()

    def on_signal(self, number: int, frame: object) -> None:
        """Any request to stop ends the main loop the same way."""
        raise KeyboardInterrupt

    def tell(self, text: str) -> None:
        """Print one line now, also into a pipe."""
        self.stdout.write(text)
        self.stdout.flush()


WORKER_HABITS = ("--pool=threads", f"--concurrency={env_int('WORKER_THREADS', default=4, minimum=1, maximum=64)}",
                 "--without-gossip", "--without-mingle", "--without-heartbeat")  # fmt: skip


def web_command(port: int) -> list[str]:
    """Return the command of the site."""
    habits = ("--lifespan", "off", "--no-access-log", "--no-server-header", "--timeout-graceful-shutdown", "2")
    where = ("--host", HOST, "--port", str(port))
    return [sys.executable, "-m", "uvicorn", "marketplace.asgi:application", *where, *habits]


def sandbox_command(port: int) -> list[str]:
    """Return the command of the card sandbox, which tells the site at `port` what happens."""
    listens = str(urlsplit(settings.STRIPE_SANDBOX_URL).port)
    return [sys.executable, "-m", "ledger.rails.stripe_sandbox", "--port", listens,
            "--webhook", f"http://{HOST}:{port}/webhooks/stripe/"]  # fmt: skip


def celery_command(*arguments: str) -> list[str]:
    """Return a command of our Celery app."""
    return [sys.executable, "-m", "celery", "--app", "marketplace.celery", "--workdir", str(CHECKOUT),
            *arguments, "--loglevel", settings.LOG_LEVEL]  # fmt: skip


def refuse_busy_port(port: int) -> None:
    """Raise CommandError when a stranger listens there."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except (OSError, OverflowError) as error:
            raise CommandError(f"Port {port} cannot be used ({error}); try --port {port + 1}.") from None


def wait_for_first_page(supervisor: Supervisor, port: int) -> None:
    """Return when the site answers; raise CommandError with its log's name when it never does."""
    give_up_at = time.monotonic() + FIRST_PAGE_SECONDS_MAX
    while time.monotonic() < give_up_at:
        supervisor.watch()
        with contextlib.suppress(OSError, http.client.HTTPException):
            site = http.client.HTTPConnection(HOST, port, timeout=10)
            site.request("GET", "/")
            if site.getresponse().status < 500:
                return
        time.sleep(0.1)
    raise CommandError(f"The site does not answer. Its words: {os.fspath(supervisor.log_path('web'))}")
