"""`manage.py invite`: a seat of a party that has nobody yet who could invite, such as the Foundation's first admin."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.urls import reverse

from marketplace import clock
from marketplace.errors import MarketError
from marketplace.parties.models import Party
from marketplace.parties.seats import invite


class Command(BaseCommand):
    """A link to a seat, by the operator's hand; it stands on the trail under the party's name."""

    help = "Print a link that gives a person a seat of a party, once, within seven days."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("party", help="slug of the party, as in the console")
        parser.add_argument("email", help="address of the person")
        parser.add_argument("role", help="such as owner; admin at the Foundation")
        parser.add_argument("--server", default="http://127.0.0.1:8000", help="where the site is reached")

    def handle(self, *args: Any, **options: Any) -> None:
        party = Party.objects.filter(slug=options["party"].replace("\x00", "")).first()
        if party is None:
            raise CommandError("There is no such party.")
        try:
            _, secret = invite(party=party, by=None, email=options["email"], role=options["role"], now=clock.now())
        except MarketError as refusal:
            raise CommandError(f"{refusal} ({refusal.code})") from None
        self.stdout.write(options["server"].rstrip("/") + reverse("invitation", args=[secret]))
        self.stderr.write("Hand it over: it is stored only as a hash and not shown again.")
