"""The indexer: the only place where money of the chain enters the books.

It reads finalized logs of our contracts in order. Per block one database transaction writes the events, books them and
moves the mark, so a run that dies changes nothing and a run that repeats finds nothing to do. What stands above the
finalized block is kept too and undone when its branch loses (`ahead.py`), but no money is booked from there.

Two ways to book. `Locked` and `Settled` are sums: what they mean line by line was decided before the transaction was
sent, so the plan of the intent that caused them is posted. Everything that anybody can cause is booked from the event.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby
from typing import Any
from uuid import UUID

from django.db import transaction

from ledger import faults
from ledger.errors import LedgerError, LedgerHalted
from ledger.ids import chain_reference, uuid_from
from ledger.models import ChainAddress, ChainAttempt, ChainClass, ChainContract, ChainEvent, ChainMark
from ledger.posting import Posting
from ledger.rails import abi, card, connect
from ledger.rails.ahead import look_ahead
from ledger.rails.base import Chain, Head, Log
from ledger.rails.errors import ChainRewound, LogsMissing, LogUnknown
from ledger.rails.evm import chain
from ledger.services import (
    USDC6_LEDGER,
    book_claim,
    book_deposit,
    book_fees_withdrawn,
    book_holdback_forfeited,
    book_holdback_released,
    book_paid_out,
    book_refund,
    book_slash,
    book_stake,
    book_unstake,
    book_withdrawal,
    halt_ledger,
    post_transfers,
)

MARK = "books"
WATCHED = ("escrow", "stake", "anchor")
BLOCKS_PER_QUERY = 2_000
BLOCKS_PER_MARK = 100  # a first run of many blocks that dies begins again here


@dataclass(frozen=True)
class Booking:
    """One event on its way into the books."""

    event: ChainEvent
    reference: bytes
    now: datetime

    @property
    def args(self) -> Mapping[str, Any]:
        return self.event.args  # type: ignore[no-any-return]

    def of_class(self) -> dict[str, Any]:
        """What every booking of a class says alike: whose class, which event, when."""
        row = _class(self.args["node_class"])
        return {"provider": row.provider, "node_class": row.node_class, "reference": self.reference, "now": self.now}


def index(*, now: datetime) -> int:
    """Take in every finalized log since the mark, and return how many events were new.

    An event that the books cannot explain is kept with `booked=False`, the ledger is halted with the reason, and the
    next run tries it again; later events go on. Raises `ChainRewound` if the marked block left the chain, and
    `LogsMissing` if the node's answers do not fit together or lag behind: nothing is taken from them.
    """
    here = chain()
    addresses = {
        row.address: row.name for row in ChainContract.objects.filter(chain_id=here.chain_id, name__in=WATCHED)
    }
    if not addresses:
        return 0
    _book_late(now)
    mark = _mark(here)
    finalized = here.finalized()
    read = _read_ranges if here.embedded is not None else _read_blocks
    found = read(here, mark, finalized, addresses, now)
    # What was seen ahead and is still not final at or below the finalized height stands on a branch that has lost.
    ChainEvent.objects.filter(final=False, block_number__lte=finalized.number).delete()
    if here.embedded is None:
        look_ahead(here, finalized, addresses, keep_log)
    return found


def _read_ranges(here: Chain, mark: Head, finalized: Head, addresses: Mapping[str, str], now: datetime) -> int:
    """The embedded chain: its logs are a table of this database, written with the block itself."""
    found, number = 0, mark.number
    while number < finalized.number:
        last = min(number + BLOCKS_PER_QUERY, finalized.number)
        logs = here.logs(list(addresses), first_block=number + 1, last_block=last)
        for block_number, of_block in groupby(logs, key=lambda log: log.block_number):
            found += _take_block(block_number, list(of_block), addresses, now)
        end = finalized if last == finalized.number else here.block(last)
        assert end is not None, "a finalized block is always there"
        _move_mark(end)
        number = last
    return found


def _read_blocks(here: Chain, mark: Head, finalized: Head, addresses: Mapping[str, str], now: datetime) -> int:
    """A node: block by block, each tied to the one before by its parent's hash, so that none can be left out."""
    found, last = 0, mark
    for number in range(mark.number + 1, finalized.number + 1):
        block = here.block(number)
        if block is None or block.parent_hash != last.hash:
            raise LogsMissing(f"Block {number} is final and does not follow block {last.hash}.", block_number=number)
        logs = here.block_logs(block, list(addresses))
        if logs:
            found += _take_block(number, logs, addresses, now)
        elif number % BLOCKS_PER_MARK == 0:
            _move_mark(block)
        last = block
    _move_mark(last)
    return found


def replay_events(*, now: datetime) -> int:
    """Forget how far we read and read everything again; the books must not move. Returns the events that were new."""
    with transaction.atomic():
        ChainMark.objects.filter(name=MARK).delete()
    return index(now=now)


# -- the mark --------------------------------------------------------------------------------------------------------
def _mark(here: Chain) -> Head:
    """The last block taken in, after a look whether it is still the chain's."""
    row = ChainMark.objects.filter(name=MARK).first()
    if row is None:
        first = ChainContract.objects.filter(chain_id=here.chain_id).order_by("deployed_block").first()
        start = 0 if here.embedded is not None or first is None else max((first.deployed_block or 1) - 1, 0)
        start = min(start, here.finalized().number)  # nothing above it can be marked: it may still change
        block = here.block(start)
        if block is None:
            raise LogsMissing(f"The node does not know block {start}.", block_number=start)
        ChainMark.objects.get_or_create(name=MARK, defaults={"block_number": start, "block_hash": block.hash})
        return block
    block = here.block(row.block_number)
    if block is None and row.block_number > here.head().number:
        raise LogsMissing(f"The node is behind: it does not know block {row.block_number} yet.",
                          block_number=row.block_number)  # fmt: skip
    if block is None or block.hash != row.block_hash:
        reason = f"block {row.block_number}, booked as {row.block_hash}, is no longer on the chain"
        halt_ledger(ledger=USDC6_LEDGER, reason=reason)
        raise ChainRewound(f"The chain was rewound: {reason}.", block_number=row.block_number)
    return block


def _move_mark(end: Head) -> None:
    ChainMark.objects.filter(name=MARK, block_number__lt=end.number).update(
        block_number=end.number, block_hash=end.hash
    )


# -- one block -------------------------------------------------------------------------------------------------------
@transaction.atomic
def _take_block(number: int, logs: list[Log], addresses: Mapping[str, str], now: datetime) -> int:
    mark = ChainMark.objects.select_for_update().get(name=MARK)
    if mark.block_number >= number:
        return 0  # another indexer took it while we read
    known = {event.log_index: event for event in ChainEvent.objects.filter(block_hash=logs[0].block_hash)}
    new = 0
    for log in logs:
        event = known.get(log.log_index)
        if event is not None and event.final:
            continue
        if event is None:
            event = keep_log(log, addresses[log.address], final=True)
        else:
            event.final = True
            event.save(update_fields=["final"])
        faults.point("indexer.kept")
        _book(event, now)
        new += 1
    mark.block_number, mark.block_hash = number, logs[0].block_hash
    mark.save(update_fields=["block_number", "block_hash"])
    faults.point("indexer.before_commit")
    return new


def keep_log(log: Log, contract: str, *, final: bool) -> ChainEvent:
    """Keep one log as an event; nothing is booked here."""
    return ChainEvent.objects.create(**event_fields(log, contract), final=final)


def event_fields(log: Log, contract: str) -> dict[str, Any]:
    """Return a log decoded, as the fields of its event."""
    decoded = abi.decode_log(contract, log.topics, log.data)
    name, args = decoded if decoded is not None else ("", {"topics": [topic.hex() for topic in log.topics]})
    return {
        "block_number": log.block_number, "block_hash": log.block_hash, "log_index": log.log_index,
        "tx_hash": log.tx_hash, "contract": contract, "name": name,
        "args": {key: _json(value) for key, value in args.items()},
    }  # fmt: skip


def _json(value: Any) -> Any:
    if isinstance(value, bytes):
        return "0x" + value.hex()
    # A uint256 leaves what JSON readers keep exactly; our amounts are uint64, which the books take as they are.
    return str(value) if isinstance(value, int) and value >= 2**64 else value


def _book(event: ChainEvent, now: datetime) -> None:
    """Bring one event into the books, or halt the ledger and leave the event open."""
    reference = chain_reference(event.block_hash, event.log_index)
    book = BOOKINGS.get((event.contract, event.name))
    try:
        with transaction.atomic():
            if book is None:
                raise LogUnknown("no booking is known for it", contract=event.contract, event=event.name)
            book(Booking(event, reference, now))
    except LedgerHalted:
        return  # payouts wait until the difference is cleared; the reason is on the ledger already
    except LedgerError as error:
        place = f"{event.contract}.{event.name or 'unknown event'} in block {event.block_number}/{event.log_index}"
        halt_ledger(ledger=USDC6_LEDGER, reason=f"{place} cannot be booked: {error}")
        return
    event.booked = True
    event.save(update_fields=["booked"])


def _book_late(now: datetime) -> None:
    """Try again what could not be booked before, oldest first."""
    late = ChainEvent.objects.filter(booked=False, final=True).order_by("block_number", "log_index")
    for pk in late.values_list("pk", flat=True):
        with transaction.atomic():
            event = ChainEvent.objects.select_for_update().get(pk=pk)
            if not event.booked:
                _book(event, now)


# -- who is meant ----------------------------------------------------------------------------------------------------
def _party(address: str) -> UUID:
    """The party behind a buyer's address.

    Anybody may deposit for any address. A stranger's money gets a party of its own, so that it can be withdrawn and
    accounted for, and so that nobody can halt the ledger by depositing one micro-USD for an address we never saw.
    """
    row, _ = ChainAddress.objects.get_or_create(
        address=address, defaults={"party": uuid_from("stranger", address), "role": "buyer"}
    )
    return row.party


def _class(class_id: int) -> ChainClass:
    row = ChainClass.objects.filter(class_id=class_id).first()
    if row is None:
        raise LogUnknown(f"class {class_id} belongs to nobody we know", class_id=class_id)
    return row


# -- bookings --------------------------------------------------------------------------------------------------------
def _book_plan(what: Booking) -> None:
    attempt = ChainAttempt.objects.select_related("intent").filter(tx_hash=what.event.tx_hash).first()
    if attempt is None:
        raise LogUnknown(f"transaction {what.event.tx_hash} is none of ours", tx_hash=what.event.tx_hash)
    plan = [Posting.from_json(row).with_reference(what.reference) for row in attempt.intent.plan]
    post_transfers(ledger=USDC6_LEDGER, postings=plan, now=what.now)


def _book_deposited(what: Booking) -> None:
    """Book a deposit. One that the sender made for card money ends an exchange; any other is the buyer's own coin."""
    attempt = ChainAttempt.objects.select_related("intent").filter(tx_hash=what.event.tx_hash).first()
    if attempt is not None and card.finish_exchange(
        intent_key=attempt.intent.key, reference=what.reference, now=what.now
    ):
        return
    book_deposit(party=_party(what.args["buyer"]), amount=what.args["amount"], reference=what.reference, now=what.now)


def _book_withdrawn(what: Booking) -> None:
    """Book a withdrawal. One that we sent with a plan takes money that a hold had reserved: the plan says which."""
    attempt = ChainAttempt.objects.select_related("intent").filter(tx_hash=what.event.tx_hash).first()
    if attempt is not None and attempt.intent.plan:
        _book_plan(what)
        return
    party = _party(what.args["buyer"])
    book_withdrawal(party=party, amount=what.args["amount"], reference=what.reference, now=what.now)


def _book_paid_out(what: Booking) -> None:
    """Book a payout. One whose provider chose its bank stays in a wallet of ours until it is paid on."""
    if connect.take_in(**what.of_class(), payee=what.args["payee"], amount=what.args["amount"]):
        return
    book_paid_out(**what.of_class(), amount=what.args["amount"])


def _book_released(what: Booking) -> None:
    book_holdback_released(**what.of_class(), amount=what.args["amount"])


def _book_forfeited(what: Booking) -> None:
    book_holdback_forfeited(**what.of_class(), buyer=_party(what.args["buyer"]), amount=what.args["amount"])


def _book_claimed(what: Booking) -> None:
    book_claim(**what.of_class(), gross=what.args["gross"], fee=what.args["fee"], held=what.args["held"])


def _book_refunded(what: Booking) -> None:
    book_refund(
        party=_party(what.args["buyer"]), locked=what.args["locked"], amount=what.args["amount"],
        reference=what.reference, now=what.now,
    )  # fmt: skip


def _book_fees_withdrawn(what: Booking) -> None:
    book_fees_withdrawn(amount=what.args["amount"], reference=what.reference, now=what.now)


def _book_staked(what: Booking) -> None:
    book_stake(**what.of_class(), amount=what.args["amount"])


def _book_unstaked(what: Booking) -> None:
    book_unstake(**what.of_class(), amount=what.args["amount"])


def _book_slashed(what: Booking) -> None:
    book_slash(
        **what.of_class(), buyer=_party(what.args["buyer"]), to_buyer=what.args["to_buyer"],
        to_pool=what.args["to_pool"],
    )  # fmt: skip


def _moves_nothing(what: Booking) -> None:
    """The event changes no balance that the books mirror, or is the other half of one that does."""


# Every event that the contracts can emit is listed; one that is not halts the ledger instead of passing unseen.
BOOKINGS: dict[tuple[str, str], Callable[[Booking], None]] = {
    ("escrow", "Deposited"): _book_deposited,
    ("escrow", "Withdrawn"): _book_withdrawn,
    ("escrow", "Locked"): _book_plan,
    ("escrow", "Settled"): _book_plan,
    ("escrow", "PaidOut"): _book_paid_out,
    ("escrow", "HoldbackReleased"): _book_released,
    ("escrow", "HoldbackForfeited"): _book_forfeited,
    ("escrow", "Claimed"): _book_claimed,
    ("escrow", "Refunded"): _book_refunded,
    ("escrow", "FeesWithdrawn"): _book_fees_withdrawn,
    ("stake", "Staked"): _book_staked,
    ("stake", "Unstaked"): _book_unstaked,
    ("stake", "SlashExecuted"): _book_slashed,
    **{
        (contract, name): _moves_nothing
        for contract, names in {
            "escrow": "WindowOpened SlashCredited WoundUp Paused Unpaused Scheduled Enacted Cancelled",
            "stake": "UnstakeRequested ClassAttested Proven Suspended Resumed SlashRequested SlashDisputed SlashUpheld "
            "SlashVetoed SlashLapsed Paused Unpaused Scheduled Enacted Cancelled",
            "anchor": "Posted Bundled Scheduled Enacted Cancelled",
        }.items()
        for name in names.split()
    },
}
