"""`manage.py api_key`: give a party's program its key, see the keys that stand, end one."""

from __future__ import annotations

from argparse import ArgumentParser
from datetime import timedelta
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from marketplace import clock
from marketplace.errors import MarketError
from marketplace.parties.models import ApiKey, Party
from marketplace.parties.services import issue_api_key, revoke_api_key


class Command(BaseCommand):
    """Keys of the API, by the slug of their party."""

    help = "Issue, list and revoke the API keys of a party."

    def add_arguments(self, parser: ArgumentParser) -> None:
        acts = parser.add_subparsers(dest="act", required=True)
        new = acts.add_parser("new", help="make a key and print its secret, this once")
        new.add_argument("party", help="slug of the party, as in the console")
        new.add_argument("label", help="what the key is for, so that it can be told from others")
        new.add_argument("--write", action="store_true", help="it may post and withdraw, not only read")
        new.add_argument("--days", type=int, help="days until it expires; without them it does not")
        listed = acts.add_parser("list", help="the keys of a party, without secrets")
        listed.add_argument("party")
        ended = acts.add_parser("revoke", help="end a key at once")
        ended.add_argument("prefix", help="the eight characters after gx_live_")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            {"new": self.new, "list": self.list, "revoke": self.revoke}[options["act"]](options)
        except MarketError as refusal:
            raise CommandError(f"{refusal} ({refusal.code})") from None

    def new(self, options: dict[str, Any]) -> None:
        now, days = clock.now(), options["days"]
        if days is not None and not 1 <= days <= 3650:
            raise CommandError("A key lives 1 to 3650 days.")
        _, secret = issue_api_key(
            party=_party(options["party"]), label=options["label"], may_write=options["write"], now=now,
            expires_at=now + timedelta(days=days) if days else None,
        )  # fmt: skip
        self.stdout.write(secret)
        self.stderr.write("Keep it: it is stored only as a hash and not shown again.")

    def list(self, options: dict[str, Any]) -> None:
        for key in ApiKey.objects.filter(party=_party(options["party"])).order_by("created_at", "id"):
            state = "revoked" if key.revoked_at else f"until {key.expires_at:%Y-%m-%d}" if key.expires_at else "live"
            self.stdout.write(f"{key.prefix}  {'write' if key.may_write else 'read '}  {state:16}  {key.label}")

    def revoke(self, options: dict[str, Any]) -> None:
        key = ApiKey.objects.select_related("party").filter(prefix=options["prefix"].replace("\x00", "")).first()
        if key is None:
            raise CommandError("There is no such key.")
        revoke_api_key(key=key, now=clock.now())
        self.stdout.write(f"{key.prefix} of {key.party.slug} is ended.")


def _party(slug: str) -> Party:
    party = Party.objects.filter(slug=slug.replace("\x00", "")).first()
    if party is None:
        raise CommandError("There is no such party.")
    return party
