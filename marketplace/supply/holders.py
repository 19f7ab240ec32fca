"""The window's key: made when bidding opens, split two of three among holders, given back by two after the close.

The private key lives in the memory of the process that makes it, for as long as it takes to split it. Each share is
locked for its holder's public key and only so stored. In production two holders are outside organisations and each
keeps its private key to itself (`manage.py seal`); in a demo all three keys lie on this server and are marked so.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from secrets import token_hex
from uuid import UUID

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from django.conf import settings
from django.db import transaction

from marketplace.catalogue.limits import require_name
from marketplace.catalogue.models import Window
from marketplace.environment import private_text
from marketplace.errors import BadInput, HoldersMissing, ReferenceReused, SealKeyLost, ShareRefused, TooEarly
from marketplace.governance.services import record
from marketplace.supply import shamir
from marketplace.supply.envelopes import KEY_BYTES, lock_for, make_private_key, public_key_of, unlock_with
from marketplace.supply.seals import HOLDERS, OUTSIDE, THRESHOLD, HolderKey, KeyHolder, WindowKey, WindowShare

DEMO_HOLDERS = (
    ("demo-foundation", "Grove Foundation", False),
    ("demo-university", "Demo university notary", True),
    ("demo-auditor", "Demo audit firm", True),
)


# -- who holds -----------------------------------------------------------------------------------------------------
@transaction.atomic
def appoint_holder(
    *, code: str, organisation: str, is_outside: bool, public_key: bytes, is_demo: bool = False, now: datetime
) -> KeyHolder:
    """Appoint a holder with its public key (X25519, 32 bytes), or return it when it stands on the same terms.

    Raises BadInput; ReferenceReused when another holder has the code or the key.
    """
    require_name(code, field="code", longest=40)
    require_name(organisation, field="organisation", longest=120)
    _require_key(public_key)
    standing = KeyHolder.objects.filter(pk=code).first()
    if standing:
        same = standing.keys.filter(public_key=public_key).exists()
        if not same or (standing.organisation, standing.is_outside, standing.is_demo) != (
            organisation, is_outside, is_demo):  # fmt: skip
            raise ReferenceReused("Another holder has this code.", field="code")
        return standing
    _require_unused(public_key)
    holder = KeyHolder.objects.create(
        code=code, organisation=organisation, is_outside=is_outside, is_demo=is_demo, appointed_at=now
    )
    HolderKey.objects.create(holder=holder, version=1, public_key=public_key, since=now)
    record(
        actor="foundation", action="appoint_holder", subject=code, reason=organisation, now=now, is_outside=is_outside,
        is_demo=is_demo, public_key=public_key.hex(),
    )  # fmt: skip
    return holder


@transaction.atomic
def retire_holder(*, holder: KeyHolder, reason: str, now: datetime) -> None:
    """Give a holder no share of new windows. Those it has stay its own until they are opened."""
    require_name(reason, field="reason", longest=300)
    if KeyHolder.objects.filter(pk=holder.pk, retired_at=None).update(retired_at=now):
        record(actor="foundation", action="retire_holder", subject=holder.pk, reason=reason, now=now)


@transaction.atomic
def rotate_holder_key(
    *, holder: KeyHolder, public_key: bytes, relocked: Mapping[UUID, bytes] | None = None, now: datetime
) -> HolderKey:
    """Give a holder its next key. New windows use it; `relocked` holds shares of open ones, by window, for it.

    A share that the holder does not lock anew stays under the old key: it is released with that, or it is lost.
    """
    _require_key(public_key)
    _require_unused(public_key)
    last = HolderKey.objects.filter(holder=holder).order_by("version").last()
    version = last.version + 1 if last else 1
    key = HolderKey.objects.create(holder=holder, version=version, public_key=public_key, since=now)
    moved = 0
    for window_id, locked in (relocked or {}).items():
        shares = WindowShare.objects.filter(window_key_id=window_id, holder_key__holder=holder, locked__isnull=False)
        moved += shares.update(locked=locked, holder_key=key)
    record(
        actor=holder.pk, action="rotate_holder_key", subject=holder.pk, reason=f"version {version}", now=now,
        public_key=public_key.hex(), shares=moved,
    )  # fmt: skip
    return key


def _require_key(public_key: bytes) -> None:
    if not isinstance(public_key, bytes) or len(public_key) != KEY_BYTES:
        raise BadInput("A holder's public key is 32 bytes (X25519).", field="public_key")


def _require_unused(public_key: bytes) -> None:
    if HolderKey.objects.filter(public_key=public_key).exists():
        raise ReferenceReused("A holder has or had this key.", field="public_key")


# -- the window's key ----------------------------------------------------------------------------------------------
@transaction.atomic
def ensure_window_key(*, window: Window, now: datetime) -> WindowKey:
    """Return the window's key; the first time it is made and split. Raises HoldersMissing."""
    Window.objects.select_for_update().get(pk=window.pk)
    standing = WindowKey.objects.filter(window=window).first()
    if standing:
        return standing
    keys = _keys_of_three(now)
    private = make_private_key()
    made = WindowKey.objects.create(window=window, public_key=public_key_of(private), made_at=now)
    shares = shamir.split(private, holders=HOLDERS, threshold=THRESHOLD)
    WindowShare.objects.bulk_create(
        WindowShare(
            window_key=made, holder_key=key, number=number, commitment=hashlib.sha256(shares[number]).digest(),
            locked=lock_for(bytes(key.public_key), shares[number], share_name(window.pk, number)),
        )
        for number, key in enumerate(keys, start=1)
    )  # fmt: skip
    record(
        actor="market", action="make_window_key", subject=window.name, reason="bids are sealed for this key", now=now,
        public_key=bytes(made.public_key).hex(), holders=[key.holder_id for key in keys],
    )  # fmt: skip
    return made


def share_name(window_id: UUID, number: int) -> bytes:
    """What a locked share belongs to; authenticated with it."""
    return b"share:%d:" % number + window_id.bytes


def _keys_of_three(now: datetime) -> list[HolderKey]:
    holders = list(KeyHolder.objects.filter(retired_at=None))
    if not holders and settings.DEMO:
        holders = [_appoint_demo(code, name, outside, now) for code, name, outside in DEMO_HOLDERS]
    outside = [each for each in holders if each.is_outside and (settings.DEMO or not each.is_demo)]
    if len(holders) != HOLDERS or len(outside) < OUTSIDE or (not settings.DEMO and any(h.is_demo for h in holders)):
        raise HoldersMissing(
            "Bidding opens when three keyholders are appointed, two of them outside organisations.",
            holders=len(holders), outside=len(outside), needed=HOLDERS, needed_outside=OUTSIDE,
        )  # fmt: skip
    keys = [each.keys.order_by("version").last() for each in sorted(holders, key=lambda each: each.pk)]
    return [key for key in keys if key is not None]


# -- release and loss ----------------------------------------------------------------------------------------------
@transaction.atomic
def release_share(*, window: Window, holder: KeyHolder, share: bytes, now: datetime) -> WindowShare:
    """Take a holder's share of a window whose bidding is over. The same share again changes nothing.

    Raises TooEarly before the close, ShareRefused for bytes that are not the share that was dealt.
    """
    row = _share_of(window, holder)
    if now < window.bidding_closes_at:
        raise TooEarly("A share is released when bidding is over.", from_then=window.bidding_closes_at.isoformat())
    if hashlib.sha256(share).digest() != bytes(row.commitment):
        raise ShareRefused("These bytes are not the share that this holder was given.", holder=holder.pk)
    if row.released is None and row.lost_at is None and row.window_key.ended_at is None:
        row.released, row.released_at = share, now
        row.save(update_fields=["released", "released_at"])
        record(actor=holder.pk, action="release_share", subject=window.name, reason="bidding is over", now=now,
               number=row.number)  # fmt: skip
    return row


@transaction.atomic
def report_lost(*, window: Window, holder: KeyHolder, reason: str, now: datetime) -> WindowShare:
    """Write down that a holder cannot give its share: its key is lost, destroyed or in wrong hands. It is erased."""
    require_name(reason, field="reason", longest=300)
    row = _share_of(window, holder)
    if row.lost_at is None and row.window_key.ended_at is None:
        row.locked = row.released = None
        row.lost_at, row.lost_because = now, reason
        row.save(update_fields=["locked", "released", "lost_at", "lost_because"])
        record(actor=holder.pk, action="lose_share", subject=window.name, reason=reason, now=now, number=row.number)
    return row


def can_still_open(window: Window) -> bool:
    """Say whether enough shares are left for a window to be opened at all."""
    left = WindowShare.objects.filter(window_key__window=window, lost_at=None)
    return not WindowKey.objects.filter(window=window).exists() or left.count() >= THRESHOLD


def released_shares(window: Window) -> int:
    """Return how many shares of a window's key were released."""
    return WindowShare.objects.filter(window_key__window=window, released__isnull=False).count()


def window_private_key(window: Window) -> bytes:
    """Return the private key out of the released shares. Raises SealKeyLost when they are too few or do not fit."""
    made = WindowKey.objects.get(window=window)
    rows = made.shares.filter(released__isnull=False)
    try:
        private = shamir.combine({row.number: bytes(row.released or b"") for row in rows}, threshold=THRESHOLD)
    except ValueError as error:
        raise SealKeyLost(f"The window's key cannot be put together: {error}.", window=window.name) from None
    if public_key_of(private) != bytes(made.public_key):
        raise SealKeyLost("The released shares give another key than this window's.", window=window.name)
    return private


def end_window_key(*, window: Window, ended_by: str, now: datetime) -> None:
    """Erase every share of a window that was opened or has failed: what was not opened by then never is."""
    if WindowKey.objects.filter(window=window, ended_at=None).update(ended_at=now, ended_by=ended_by):
        WindowShare.objects.filter(window_key__window=window).update(locked=None, released=None)


def _share_of(window: Window, holder: KeyHolder) -> WindowShare:
    rows = WindowShare.objects.select_for_update(of=("self",)).select_related("window_key")
    row = rows.filter(window_key__window=window, holder_key__holder=holder).first()
    if row is None:
        raise ShareRefused("This holder has no share of this window.", holder=holder.pk, window=window.name)
    return row


# -- the demo's holders --------------------------------------------------------------------------------------------
def release_demo_shares(*, window: Window, now: datetime) -> int:
    """Let the demo's holders release their shares of a window whose bidding is over; returns how many did."""
    if not settings.DEMO or now < window.bidding_closes_at:
        return 0
    rows = WindowShare.objects.select_related("holder_key__holder").filter(
        window_key__window=window, window_key__ended_at=None, released=None, lost_at=None,
        holder_key__holder__is_demo=True,
    )  # fmt: skip
    needed = list(rows[: max(0, THRESHOLD - released_shares(window))])
    for row in needed:
        private = demo_private_key(row.holder_key.holder_id, row.holder_key.version)
        share = unlock_with(private, bytes(row.locked or b""), share_name(window.pk, row.number))
        release_share(window=window, holder=row.holder_key.holder, share=share, now=now)
    return len(needed)


def demo_private_key(code: str, version: int) -> bytes:
    """Return a demo holder's private key, derived from a file on this server."""
    secret = private_text(Path(settings.DATA_DIR) / "demo_keyholders", token_hex(32))
    info = f"{code}:{version}".encode()
    return HKDF(hashes.SHA256(), 32, salt=b"grove-exchange/demo-keyholder/1", info=info).derive(bytes.fromhex(secret))


def _appoint_demo(code: str, organisation: str, is_outside: bool, now: datetime) -> KeyHolder:
    return appoint_holder(
        code=code, organisation=organisation, is_outside=is_outside, is_demo=True, now=now,
        public_key=public_key_of(demo_private_key(code, 1)),
    )  # fmt: skip
