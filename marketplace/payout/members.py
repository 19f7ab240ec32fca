"""The members of a consortium are paid by the market: their parts of what escrow paid go on, on chain, by themselves.

Escrow knows one payee for each node class: the wallet that the market keeps for the consortium's leader. When a payment
to it enters the books, the split in force at that instant is written down, whole, and every other member's part sets
out to the member's own wallet in the same database transaction. From there it is the member's coin, or goes on to its
bank if it chose one. What did not move is sent again.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from django.db import transaction

from ledger.errors import LedgerHalted
from ledger.ids import chain_reference, uuid7, uuid_from
from ledger.models import ChainEvent, ChainIntent, Transfer
from ledger.money import USDC6, Money
from ledger.posting import USDC6_LEDGER
from ledger.rails import abi, connect, sender
from ledger.services import (
    book_given_back,
    book_member_share,
    book_taken_in,
    reserve_member_share,
    void_member_share,
)
from marketplace.capacity.services import parts_of, split_in_force
from marketplace.governance.services import record
from marketplace.notices.services import tell_parties
from marketplace.parties.models import Party
from marketplace.payout.models import MemberShare
from marketplace.supply.onchain import ensure_address

AGAIN_AFTER, AGAIN_AFTER_MAX = timedelta(minutes=10), timedelta(days=1)


def share_payment(
    *, provider: UUID, node_class: UUID, payee: str, amount: int, reference: bytes, now: datetime
) -> bool:
    """Book a payment of escrow to a consortium and send its members their parts; False for one that nobody shares.

    Runs in the transaction that books the event. Read again, the event is known and nothing is done twice.
    """
    if MemberShare.objects.filter(reference=reference).exists():
        return True
    split = split_in_force(provider, now)
    if split is None or Transfer.objects.filter(ledger=USDC6_LEDGER, reference=reference).exists():
        return False
    lead = Party.objects.get(pk=provider)
    if ensure_address(party=lead) != payee:
        return False
    book_taken_in(provider=provider, node_class=node_class, amount=amount, reference=reference, now=now)
    parts = parts_of(split, amount)
    for member, micros in parts.items():
        share = MemberShare(
            id=uuid7(now), reference=reference, lead=lead, node_class_id=node_class, split=split, member=member,
            paid_micros=amount, amount_micros=micros, made_at=now,
        )  # fmt: skip
        if member == lead or micros == 0:
            share.final_at = now
        else:
            _send(share, now)
        share.save(force_insert=True)
    _leave_to(lead, node_class, parts.get(lead, 0), payee, reference.hex(), now)
    record(actor="market", action="share_payment", subject=node_class, reason="the split in force", now=now,
           split=str(split.pk), parts={member.slug: micros for member, micros in parts.items()})  # fmt: skip
    return True


@transaction.atomic
def confirm_shares(*, now: datetime) -> int:
    """Book the parts whose coins arrived, and send again those whose coins did not move; returns how many.

    The first time at once; a part that fails again waits ten minutes, then twice as long each time, a day at most.
    """
    waiting = {
        row.intent_key: row
        for row in MemberShare.objects.select_for_update(of=("self",)).filter(final_at=None)
        .select_related("member", "lead", "node_class")
    }  # fmt: skip
    ended = ChainIntent.objects.filter(key__in=list(waiting), state__in=("final", "reverted"))
    moved = 0
    for intent in ended.order_by("created_at", "id"):
        if intent.state == ChainIntent.State.REVERTED and now < _again_at(waiting[intent.key], intent):
            continue
        try:
            with transaction.atomic():
                _end(waiting[intent.key], intent, now)
        except LedgerHalted:  # payouts stand still; the next turn looks again
            continue
        moved += 1
    return moved


def _again_at(share: MemberShare, intent: ChainIntent) -> datetime:
    """From when a part whose coins did not move is sent again: each attempt costs gas, and the cause may last."""
    ended_at = intent.final_at or intent.created_at
    if share.attempt == 1:
        return ended_at
    doublings = min(share.attempt - 2, 16)  # an exponent that never runs out of a timedelta
    return ended_at + min(AGAIN_AFTER * 2**doublings, AGAIN_AFTER_MAX)


def _end(share: MemberShare, intent: ChainIntent, now: datetime) -> None:
    claim, member = _claim_id(share), share.member
    if intent.state == ChainIntent.State.REVERTED:
        void_member_share(id=claim, lead=share.lead_id, amount=share.amount_micros, now=now)
        share.attempt += 1
        _send(share, now)
        share.save(update_fields=["attempt", "intent_key"])
        record(actor="market", action="send_share_again", subject=share.pk, now=now, attempt=share.attempt,
               reason=intent.revert_reason or "the coins did not move")  # fmt: skip
        return
    book_member_share(
        id=claim, lead=share.lead_id, member=member.pk, node_class=share.node_class_id, amount=share.amount_micros,
        reference=bytes.fromhex(str(intent.tx_hash).removeprefix("0x")), now=now,
    )  # fmt: skip
    _leave_to(member, share.node_class_id, share.amount_micros, _wallet(member), str(share.pk), now)
    share.final_at = now
    share.save(update_fields=["final_at"])
    tell_parties(
        parties=[member.pk], about=f"share:{share.pk}", code="share_paid", now=now,
        sentence=f"Your part of what {share.lead.name} was paid is in your wallet: see your statement.",
    )  # fmt: skip


def _send(share: MemberShare, now: datetime) -> None:
    """Reserve a part and ask the chain to move its coins, under a key of this attempt."""
    share.intent_key = f"member-share:{bytes(share.reference).hex()}:{share.member_id.hex[-12:]}:{share.attempt}"
    reserve_member_share(
        id=_claim_id(share), lead=share.lead_id, member=share.member_id, node_class=share.node_class_id,
        amount=share.amount_micros, now=now,
    )  # fmt: skip
    sender.submit(
        key=share.intent_key, role=f"provider:{share.lead_id}", contract="token", function="transfer",
        args=[_wallet(share.member), share.amount_micros], now=now,
    )  # fmt: skip


def _leave_to(party: Party, node_class: UUID, micros: int, wallet: str, key: str, now: datetime) -> None:
    """Leave coins in the wallet of a party, or see to their way to its bank if it chose one."""
    if connect.pays_bank(party.pk, wallet):
        connect.ask_pay_out(provider=party.pk, node_class=node_class, key=f"share:{key}")
    elif micros:
        book_given_back(id=uuid_from("left", key), provider=party.pk, node_class=node_class, amount=micros, now=now)


def _wallet(party: Party) -> str:
    """Where a member is paid: its own address, which is the wallet we keep for it unless it brought another."""
    kept = ensure_address(party=party)
    return party.chain_address or kept


def _claim_id(share: MemberShare) -> UUID:
    return uuid_from("member share", share.pk, str(share.attempt))


# -- what is looked at -------------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class ShareFault:
    """What is wrong with the parts of one payment."""

    reference: str
    sentence: str


def wrong_shares() -> Iterator[ShareFault]:
    """Recompute every shared payment: event, split, parts, transfers on chain and postings; yield what does not fit."""
    amounts = {
        chain_reference(event.block_hash, event.log_index): int(event.args["amount"])
        for event in ChainEvent.objects.filter(contract="escrow", name="PaidOut", final=True)
    }  # fmt: skip
    rows = MemberShare.objects.select_related("member", "split").order_by("made_at", "id")
    payments: dict[bytes, list[MemberShare]] = {}
    for row in rows:
        payments.setdefault(bytes(row.reference), []).append(row)
    intents = {row.key: row for row in ChainIntent.objects.filter(key__startswith="member-share:")}
    ids = [uuid_from("member share", _claim_id(row), "final") for row in rows]
    posted = dict(Transfer.objects.filter(ledger=USDC6_LEDGER, id__in=ids).values_list("id", "amount"))
    for reference, parts in payments.items():
        for sentence in _faults(parts, amounts.get(reference), intents, posted):
            yield ShareFault(reference.hex()[:16], sentence)


def _faults(
    parts: list[MemberShare], paid: int | None, intents: dict[str, ChainIntent], posted: dict[UUID, int]
) -> Iterator[str]:
    if {part.paid_micros for part in parts} != {paid}:
        yield f"escrow paid {paid} micro-USD"
    if (total := sum(part.amount_micros for part in parts)) != paid:
        yield f"the parts make {total} of {paid} micro-USD"
    weights = dict(parts[0].split.shares.values_list("member_id", "share_ppm"))
    ordered = sorted(parts, key=lambda part: part.member.slug)
    if {part.member_id for part in parts} != set(weights) or [part.amount_micros for part in ordered] != [
        each.minor for each in Money(paid or 0, USDC6).split([weights[part.member_id] for part in ordered])
    ]:
        yield "the parts are not those of the split"
    for part in parts:
        intent = intents.get(part.intent_key)
        if part.final_at is None or part.intent_key == "":
            continue
        sent = abi.encode_call("token", "transfer", [_wallet(part.member), part.amount_micros])
        if intent is None or intent.state != "final" or bytes(intent.calldata) != sent:
            yield f"{part.member.slug} was not sent {part.amount_micros} micro-USD on chain"
        if posted.get(uuid_from("member share", _claim_id(part), "final")) != part.amount_micros:
            yield f"{part.member.slug}'s part is not in the books"
