"""The seal on a bid: what it offers and promises lies in the database as ciphertext until the window closes.

Placing:    terms + 32 random bytes -> padded text, under a key of this bid (AES-256-GCM, bound to the row it lies in)
            that key -> for the window's public key: nobody has the private one before two of three holders give it
                     -> for the party's own copy, see `party_keys.py`
            SHA-256 of the text -> commitment, also on the audit trail: a bid cannot be changed, nor dropped unseen
Closing:    every bid on the trail must be there and open to its commitment, or the window fails with `seal_broken`
Withdrawal: the window's copy of the bid's key is dropped, so the window's key does not open it either

In clear before close are: window, party, node class, the party's reference for it, time and rank. The database needs
them for its rules; no page or API tells them to anybody but the party. So who reads the database sees that a party bid
with which machines, and when, and not what it asks. A reference is the party's own words: it should name no price.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, fields
from datetime import datetime
from typing import Any

from django.db import IntegrityError, transaction

from ledger.faults import point
from ledger.ids import uuid7
from marketplace.catalogue.models import Window
from marketplace.errors import SealBroken, SealUnreadable
from marketplace.governance.models import AuditLine
from marketplace.governance.services import record
from marketplace.parties.models import Party
from marketplace.supply.envelopes import KEY_BYTES, lock, lock_for, unlock, unlock_with
from marketplace.supply.holders import end_window_key, ensure_window_key, window_private_key
from marketplace.supply.models import Bid, NodeClass
from marketplace.supply.party_keys import newest_version, party_key
from marketplace.supply.seals import BidSeal

TEXT_BYTES = 512  # every bid is as long as any other: a length would tell the digits of a price
SEALED = ("sealed", "withdrawn")


@dataclass(frozen=True, slots=True)
class Terms:
    """What a bid offers: whole units, hourly slots, micro-USD per unit-hour."""

    quantity_units: int
    start_slot: int
    end_slot: int
    price_ask_micros: int
    minimum_units: int
    sla_id: str
    sla_targets: dict[str, int] = field(default_factory=dict)


NAMES = tuple(field.name for field in fields(Terms))


@transaction.atomic
def write_sealed(
    *, party: Party, node_class: NodeClass, window: Window, reference: str, terms: Terms, accepted_rank: int,
    now: datetime,
) -> Bid:  # fmt: skip
    """Write a bid under seal, with its line on the trail; the returned row carries its terms in memory only."""
    key = ensure_window_key(window=window, now=now)
    bid = Bid.objects.create(
        id=uuid7(now), window=window, party=party, node_class=node_class, reference=reference,
        accepted_rank=accepted_rank, placed_at=now,
    )  # fmt: skip
    seal = make_seal(bid, terms, window_public_key=bytes(key.public_key))
    seal.save(force_insert=True)
    # The line says that a bid was placed and nothing of what it says: the commitment hides behind 32 random bytes.
    record(
        actor=party.slug, action="place_bid", subject=bid.pk, reason="sealed", now=now, window=str(window.pk),
        commitment=bytes(seal.commitment).hex(),
    )  # fmt: skip
    return _show(bid, terms)


def make_seal(bid: Bid, terms: Terms, *, window_public_key: bytes) -> BidSeal:
    """Return the seal of a bid, not yet written."""
    text = _text_of(terms)
    own_key, version, name = os.urandom(KEY_BYTES), newest_version(), _name_of(bid)
    return BidSeal(
        bid=bid, body=lock(own_key, text, name), party_key_version=version, commitment=hashlib.sha256(text).digest(),
        key_for_window=lock_for(window_public_key, own_key, name),
        key_for_party=lock(party_key(bid.party_id, version), own_key, name),
    )  # fmt: skip


def withdraw_seal(*, bid: Bid) -> None:
    """Drop the window's copy of a withdrawn bid's key: only its party can read it from now on."""
    BidSeal.objects.filter(bid=bid).update(key_for_window=b"")


def with_own_terms(bids: Iterable[Bid], *, party: Party) -> list[Bid]:
    """Return these bids of a party with the terms of those that are sealed filled in, in memory only.

    Terms whose key is lost stay None. A bid of another party is returned as it lies in the database.
    """
    rows = list(bids)
    seals = {seal.bid_id: seal for seal in BidSeal.objects.filter(bid__in=[row.pk for row in rows])}
    for row in rows:
        seal = seals.get(row.pk)
        if seal is not None and row.state in SEALED and row.party_id == party.pk:
            try:
                _show(row, _own_terms(row, seal))
            except (SealUnreadable, SealBroken):
                continue
    return rows


def read_own(bid: Bid, *, party: Party) -> Bid:
    """Return one bid of a party with its terms filled in, in memory only."""
    return with_own_terms([bid], party=party)[0]


@transaction.atomic
def open_bids(*, window: Window, now: datetime) -> int:
    """Open every sealed bid of a window in CLEARING in one transaction and erase its key; returns how many.

    Raises SealKeyLost without two shares that fit, SealBroken when a bid of the trail is missing or does not open to
    its commitment; then nothing is written. Which one was broken is told: a window without one of its bids is no
    result of the market.
    """
    bids = list(Bid.objects.filter(window=window, state="sealed").select_related("seal"))
    placed = _placed(window)
    held = {str(bid.pk): bytes(bid.seal.commitment).hex() if hasattr(bid, "seal") else "" for bid in bids}
    if placed != held:
        wrong = sorted(name for name in {*placed, *held} if placed.get(name) != held.get(name))
        raise SealBroken("Sealed bids are not those of the audit trail.", bids=wrong[:10])
    private = window_private_key(window) if bids else b""
    for bid in bids:
        own_key = unlock_with(private, bytes(bid.seal.key_for_window), _name_of(bid))
        _show(bid, _read(own_key, bid, bid.seal))
        bid.state = "opened"
    try:
        with transaction.atomic():
            Bid.objects.bulk_update(bids, [*NAMES, "state"], batch_size=500)
    except IntegrityError as refusal:  # the terms were checked when they were placed: somebody wrote past that
        raise SealBroken("What a sealed bid holds breaks a rule of the market.", rule=_rule_of(refusal)) from refusal
    point("supply.open_bids.after_write")
    end_window_key(window=window, ended_by="opened", now=now)
    record(
        actor="market", action="open_bids", subject=window.name, reason="two of three holders released the key",
        now=now, bids=len(bids), commitments=hashlib.sha256("".join(sorted(held.values())).encode()).hexdigest(),
    )  # fmt: skip
    return len(bids)


def _rule_of(refusal: IntegrityError) -> str:
    diag = getattr(refusal.__cause__, "diag", None)
    return str(getattr(diag, "constraint_name", "") or "")


def _placed(window: Window) -> dict[str, str]:
    """The commitments of the trail by bid, without those that were withdrawn."""
    lines = AuditLine.objects.filter(action="place_bid", at__gte=window.opened_at, facts__window=str(window.pk))
    placed = {subject: facts["commitment"] for subject, facts in lines.values_list("subject", "facts")}
    taken_back = AuditLine.objects.filter(action="withdraw_bid", subject__in=placed)
    return {name: placed[name] for name in placed.keys() - set(taken_back.values_list("subject", flat=True))}


def own_text(bid: Bid, seal: BidSeal) -> bytes:
    """Return the sealed text by the party's own copy of the key. Raises SealUnreadable, SealBroken."""
    key = party_key(bid.party_id, seal.party_key_version)
    return _open(unlock(key, bytes(seal.key_for_party), _name_of(bid)), bid, seal)


def _own_terms(bid: Bid, seal: BidSeal) -> Terms:
    return _terms_of(own_text(bid, seal))


def _read(own_key: bytes, bid: Bid, seal: BidSeal) -> Terms:
    return _terms_of(_open(own_key, bid, seal))


def _open(own_key: bytes, bid: Bid, seal: BidSeal) -> bytes:
    text = unlock(own_key, bytes(seal.body), _name_of(bid))
    if hashlib.sha256(text).digest() != bytes(seal.commitment):
        raise SealBroken("A bid is not what was committed to.", bid=str(bid.pk))
    return text


def _terms_of(text: bytes) -> Terms:
    known: dict[str, Any] = json.loads(text)
    known.setdefault("sla_targets", {})  # a bid that was sealed before there were any promises none
    return Terms(**{name: known[name] for name in NAMES})


def _text_of(terms: Terms) -> bytes:
    text = json.dumps({**asdict(terms), "blind": os.urandom(32).hex()}, sort_keys=True, separators=(",", ":")).encode()
    if len(text) > TEXT_BYTES:
        raise SealBroken("These terms are longer than a seal is.", bytes=len(text))
    return text.ljust(TEXT_BYTES)


def _name_of(bid: Bid) -> bytes:
    """What an envelope belongs to: moved to another row, window, party or node class, it does not open."""
    ids = (bid.pk, bid.window_id, bid.party_id, bid.node_class_id)
    return b"bid:1:" + b"".join(each.bytes for each in ids)


def _show(bid: Bid, terms: Terms) -> Bid:
    for name in NAMES:
        setattr(bid, name, getattr(terms, name))
    return bid
