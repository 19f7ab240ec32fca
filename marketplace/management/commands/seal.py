"""`manage.py seal`: what keyholders do, and what is written down about them.

`keygen` and `unlock` run on the holder's own machine and touch no database; the private key never leaves it.
"""

from __future__ import annotations

import os
from argparse import ArgumentParser
from pathlib import Path
from typing import Any
from uuid import UUID

from django.core.management.base import BaseCommand, CommandError

from marketplace import clock
from marketplace.catalogue.models import Window
from marketplace.errors import MarketError
from marketplace.supply import holders, party_keys
from marketplace.supply.envelopes import KEY_BYTES, make_private_key, public_key_of, unlock_with
from marketplace.supply.seals import KeyHolder, WindowShare

ARGUMENTS = {
    "keygen": ("make a private key in FILE and print its public key", ("file",)),
    "unlock": ("print the share that was locked for the key in FILE", ("file", "window", "number", "locked")),
    "appoint": ("appoint a holder with its public key", ("code", "organisation", "public_key")),
    "rotate": ("give a holder its next public key, for new windows", ("code", "public_key")),
    "retire": ("give a holder no share of new windows", ("code", "reason")),
    "locked": ("print a holder's locked share of a window", ("code", "window")),
    "release": ("release a holder's share of a window whose bidding is over", ("code", "window", "share")),
    "lost": ("write down that a holder cannot give its share of a window", ("code", "window", "reason")),
    "renew": ("add a fresh key for the parties' own copies", ()),
}


class Command(BaseCommand):
    """Keys of sealed bids."""

    help = "Keys of sealed bids: make, appoint, rotate, release, report lost."

    def add_arguments(self, parser: ArgumentParser) -> None:
        acts = parser.add_subparsers(dest="act", required=True)
        for name, (words, arguments) in ARGUMENTS.items():
            act = acts.add_parser(name, help=words)
            for argument in arguments:
                act.add_argument(argument)
            if name == "appoint":
                act.add_argument("--outside", action="store_true", help="the Foundation does not control it")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            said = getattr(self, options["act"])(options)
        except (MarketError, ValueError, OSError) as refusal:
            raise CommandError(f"{refusal} ({getattr(refusal, 'code', 'bad_input')})") from None
        self.stdout.write(said)

    # -- on the holder's own machine
    def keygen(self, options: dict[str, Any]) -> str:
        private = make_private_key()
        with open(os.open(options["file"], os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(private.hex())
        return public_key_of(private).hex()

    def unlock(self, options: dict[str, Any]) -> str:
        private = _bytes(Path(options["file"]).read_text().strip(), KEY_BYTES)
        name = holders.share_name(UUID(options["window"]), int(options["number"]))
        return unlock_with(private, bytes.fromhex(options["locked"]), name).hex()

    # -- on the market's
    def appoint(self, options: dict[str, Any]) -> str:
        holder = holders.appoint_holder(
            code=options["code"], organisation=options["organisation"], is_outside=options["outside"],
            public_key=_bytes(options["public_key"], KEY_BYTES), now=clock.now(),
        )  # fmt: skip
        return f"{holder} holds a share of every window that opens from now on."

    def rotate(self, options: dict[str, Any]) -> str:
        key = holders.rotate_holder_key(
            holder=_holder(options), public_key=_bytes(options["public_key"], KEY_BYTES), now=clock.now()
        )
        return f"Version {key.version} serves new windows. Keep the old key until its open windows are opened."

    def retire(self, options: dict[str, Any]) -> str:
        holders.retire_holder(holder=_holder(options), reason=options["reason"], now=clock.now())
        return "It gets no share of new windows."

    def locked(self, options: dict[str, Any]) -> str:
        window, holder = _window(options), _holder(options)
        row = WindowShare.objects.filter(window_key__window=window, holder_key__holder=holder).first()
        if row is None or row.locked is None:
            raise CommandError("This holder has no locked share of this window.")
        return f"{window.pk} {row.number} {bytes(row.locked).hex()}"

    def release(self, options: dict[str, Any]) -> str:
        window = _window(options)
        holders.release_share(
            window=window, holder=_holder(options), share=bytes.fromhex(options["share"]), now=clock.now()
        )
        return f"{holders.released_shares(window)} shares of {window.name} are released."

    def lost(self, options: dict[str, Any]) -> str:
        holders.report_lost(window=_window(options), holder=_holder(options), reason=options["reason"], now=clock.now())
        return "The share is erased."

    def renew(self, options: dict[str, Any]) -> str:
        return f"Version {party_keys.rotate()} is used for what is new."


def _bytes(text: str, length: int) -> bytes:
    found = bytes.fromhex(text)
    if len(found) != length:
        raise CommandError(f"A key is {length} bytes in hex.")
    return found


def _holder(options: dict[str, Any]) -> KeyHolder:
    holder = KeyHolder.objects.filter(pk=options["code"].replace("\x00", "")).first()
    if holder is None:
        raise CommandError("There is no such keyholder.")
    return holder


def _window(options: dict[str, Any]) -> Window:
    window = Window.objects.filter(name=options["window"].replace("\x00", "")).first()
    if window is None:
        raise CommandError("There is no such window.")
    return window
