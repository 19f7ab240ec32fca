"""One function per event of the market: the only ways in which the books move.

All amounts are micro-USD in the ledger of the stablecoin. An amount of zero moves nothing and writes nothing. Ids of
transfers that follow from something else are derived from it, so that a job that was killed and runs again writes
nothing twice. `reference` is the chain event that caused the movement (see `ledger.ids.chain_reference`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Literal
from uuid import UUID

from django.db import connection, transaction
from django.db.models import Exists, OuterRef

from ledger.chart import Code, Kind, Origin
from ledger.errors import PendingNotFound, PendingResolved, PostingRefused
from ledger.ids import uuid_from
from ledger.models import Account, Transfer
from ledger.money import USDC6, Money
from ledger.posting import USDC6_LEDGER, Posting, account, lock_ledger, post_transfers

SUBSIDISED = (Origin.GRANT.value, Origin.INCENTIVE.value)  # what never becomes organic on its way out
ORIGINS = """
SELECT t.origin, sum(CASE WHEN t.credit = %s THEN t.amount ELSE -t.amount END)
FROM ledger_transfer t WHERE t.ledger = %s AND t.kind IN ('posted', 'post') AND array[t.debit, t.credit] @> array[%s]
GROUP BY t.origin
"""
EXPIRE_AT_ONCE = 1000  # holds released in one transaction, so that a long queue of them never blocks the ledger


def _account(code: str, party: UUID | None = None, scope: UUID | None = None) -> int:
    return account(ledger=USDC6_LEDGER, code=code, party=party, scope=scope)


def _move(
    *, id: UUID, debit: int, credit: int, amount: int, code: Code, origin: str, now: datetime,
    reference: bytes | None,
) -> int:  # fmt: skip
    if amount == 0:
        return 0
    posting = Posting(id, debit, credit, amount, "posted", code, origin, reference=reference)
    return post_transfers(ledger=USDC6_LEDGER, postings=[posting], now=now)


def _move_by_origin(
    *, id: UUID, debit: int, credit: int, amount: int, code: Code, origin: str, now: datetime,
    reference: bytes | None,
) -> int:  # fmt: skip
    """Move what lies on an account under the origins it came with; what none of them covers moves as `origin`.

    The same id again is the same move, whatever came to the account since.
    """
    parts = [(part.origin, part.amount) for part in Transfer.objects.filter(
        ledger=USDC6_LEDGER, id__in=[id, *(uuid_from(id, each) for each in SUBSIDISED)])]  # fmt: skip
    if not parts:
        parts = _origins_of(debit, amount, origin)
    elif sum(part for _, part in parts) != amount:
        parts = [(origin, amount)]  # another body under this id: refused below
    postings = [
        Posting(id if name == origin else uuid_from(id, name), debit, credit, part, "posted", code, name,
                reference=reference)
        for name, part in parts
    ]  # fmt: skip
    return post_transfers(ledger=USDC6_LEDGER, postings=_linked(postings, id), now=now)


def _origins_of(account_id: int, amount: int, origin: str) -> list[tuple[str, int]]:
    with connection.cursor() as cursor:
        cursor.execute(ORIGINS, [account_id, USDC6_LEDGER, account_id])
        held = dict(cursor.fetchall())
    parts, left = [], amount
    for name in SUBSIDISED:
        if part := min(left, max(0, int(held.get(name, 0)))):
            parts.append((name, part))
            left -= part
    return [*parts, (origin, left)] if left else parts


def _linked(postings: Sequence[Posting], link: UUID) -> list[Posting]:
    """Return the postings that move something, as one group; a single one needs no link."""
    moving = [posting for posting in postings if posting.amount != 0]
    return [replace(posting, link=link) for posting in moving] if len(moving) > 1 else moving


# -- money that comes and goes --------------------------------------------------------------------------------------


@transaction.atomic
def book_deposit(
    *, party: UUID, amount: int, reference: bytes, now: datetime, origin: str = Origin.ORGANIC
) -> int:
    """Book a final deposit into the escrow contract: chain.escrow -> buyer.available."""
    return _move(
        id=uuid_from("deposit", reference), debit=_account("chain.escrow"), credit=_account("buyer.available", party),
        amount=amount, code=Code.DEPOSIT, origin=origin, now=now, reference=reference,
    )  # fmt: skip


@transaction.atomic
def book_withdrawal(
    *, party: UUID, amount: int, reference: bytes, now: datetime, origin: str = Origin.ORGANIC
) -> int:
    """Book a final withdrawal from the escrow contract: buyer.available -> chain.escrow. Raises InsufficientFunds."""
    return _move(
        id=uuid_from("withdrawal", reference), debit=_account("buyer.available", party),
        credit=_account("chain.escrow"), amount=amount, code=Code.WITHDRAWAL, origin=origin, now=now,
        reference=reference,
    )  # fmt: skip


# -- holds ------------------------------------------------------------------------------------------------------------


@transaction.atomic
def reserve_hold(
    *, id: UUID, party: UUID, window: UUID, amount: int, timeout_at: datetime, now: datetime,
    origin: str = Origin.ORGANIC,
) -> int:  # fmt: skip
    """Reserve money for a demand: PENDING buyer.available -> buyer.held(window), until `timeout_at`.

    `id` is the caller's and kept before. Choose a timeout beyond the time in which the chain becomes final: a hold that
    is over can no longer be posted. Raises InsufficientFunds, PendingTimedOut, IdReused.
    """
    posting = hold_posting(id=id, party=party, window=window, amount=amount, timeout_at=timeout_at, origin=origin)
    return post_transfers(ledger=USDC6_LEDGER, postings=[posting], now=now)


def hold_posting(
    *, id: UUID, party: UUID, window: UUID, amount: int, timeout_at: datetime, origin: str = Origin.ORGANIC
) -> Posting:
    """Return the posting of a hold: money that a chain plan sets free is reserved again by the same plan."""
    return Posting(
        id, _account("buyer.available", party), _account("buyer.held", party, window), amount, "pending", Code.HOLD,
        origin, timeout_at=timeout_at,
    )  # fmt: skip


@transaction.atomic
def void_hold(*, id: UUID, now: datetime) -> int:
    """Release a hold; 0 if it was released before. After its timeout the release is written as an expiry.

    Raises PendingNotFound, and PendingResolved if the hold was posted.
    """
    lock_ledger(USDC6_LEDGER)
    hold = Transfer.objects.filter(ledger=USDC6_LEDGER, id=id, kind=Kind.PENDING.value).first()
    if hold is None:
        raise PendingNotFound("There is no such hold.", pending_id=str(id))
    resolution = Transfer.objects.filter(ledger=USDC6_LEDGER, pending_id=id).first()
    if resolution is not None:
        if resolution.kind == Kind.POST.value:
            raise PendingResolved("This hold was posted; it cannot be released.", pending_id=str(id))
        return 0
    kind = Kind.EXPIRE if hold.timeout_at is not None and hold.timeout_at <= now else Kind.VOID
    return post_transfers(ledger=USDC6_LEDGER, postings=[_release(hold, kind)], now=now)


def expire_holds(*, now: datetime) -> int:
    """Release every hold whose time is over, and return how many. A job calls this; running it again is harmless."""
    released = 0
    while True:
        with transaction.atomic():
            lock_ledger(USDC6_LEDGER)
            ended = Transfer.objects.filter(ledger=USDC6_LEDGER, pending_id=OuterRef("id"))
            pending = Transfer.objects.filter(ledger=USDC6_LEDGER, kind=Kind.PENDING.value, timeout_at__lte=now)
            overdue = pending.filter(~Exists(ended)).order_by("timeout_at", "seq")[:EXPIRE_AT_ONCE]
            postings = [_release(hold, Kind.EXPIRE) for hold in overdue]
            released += post_transfers(ledger=USDC6_LEDGER, postings=postings, now=now)
        if len(postings) < EXPIRE_AT_ONCE:
            return released


def _release(hold: Transfer, kind: Kind) -> Posting:
    word: Literal["void", "expire"] = "void" if kind is Kind.VOID else "expire"
    return Posting(
        uuid_from(word, hold.id), hold.debit, hold.credit, hold.amount, word, Code.HOLD_RELEASED, hold.origin,
        pending_id=hold.id,
    )  # fmt: skip


def post_hold_posting(
    *, hold_id: UUID, party: UUID, window: UUID, amount: int, origin: str = Origin.ORGANIC
) -> Posting:
    """Return the posting that turns `amount` of a hold into held money and releases the rest; for a chain plan."""
    return Posting(
        uuid_from("post", hold_id), _account("buyer.available", party), _account("buyer.held", party, window), amount,
        "post", Code.HOLD, origin, pending_id=hold_id,
    )  # fmt: skip


# -- settlement and payout -------------------------------------------------------------------------------------------


def settle_postings(
    *, lease: UUID, buyer: UUID, window: UUID, provider: UUID, node_class: UUID, earned: int, holdback: int, fee: int,
    returned: int, credit: int, origin: str = Origin.ORGANIC, period: str = "",
) -> list[Posting]:  # fmt: skip
    """Return the postings that settle one lease out of buyer.held(window), as one linked group; for a chain plan.

    The five amounts exclude each other and together are what leaves buyer.held: `earned` goes to provider.payable,
    `holdback` to provider.holdback, `fee` to foundation.fees, `returned` (not delivered) and `credit` (broken SLA) to
    buyer.available. A lease settled more than once names each `period`.
    """
    held = _account("buyer.held", buyer, window)
    lines = (
        ("earned", earned, ("provider.payable", provider, node_class), Code.EARNED),
        ("holdback", holdback, ("provider.holdback", provider, node_class), Code.HELD_BACK),
        ("fee", fee, ("foundation.fees", None, None), Code.FEE),
        ("returned", returned, ("buyer.available", buyer, None), Code.RETURNED),
        ("credit", credit, ("buyer.available", buyer, None), Code.SLA_CREDIT),
    )
    ids = ids_of_settlement(lease=lease, period=period)
    postings = [
        Posting(ids[name], held, _account(*target), amount, "posted", code, origin)
        for name, amount, target, code in lines
        if amount != 0
    ]
    return _linked(postings, uuid_from("settle", lease, period))


def ids_of_settlement(*, lease: UUID, period: str = "") -> dict[str, UUID]:
    """Return the ids that the transfers of one settlement of a lease have, those that it may have too."""
    names = ("earned", "holdback", "fee", "returned", "credit")
    return {name: uuid_from("settle", lease, period, name) for name in names}


def cover_id(key: UUID) -> UUID:
    """Return the id of the transfer by which a lease's settlement covers what was claimed before."""
    return uuid_from("cover", key)


@transaction.atomic
def book_paid_out(
    *, provider: UUID, node_class: UUID, amount: int, reference: bytes, now: datetime, origin: str = Origin.ORGANIC
) -> int:
    """Book a final payout: provider.payable -> chain.escrow. Raises LedgerHalted, InsufficientFunds.

    What was earned from a grant or an incentive leaves under that origin, as one group with the rest.
    """
    return _move_by_origin(
        id=uuid_from("paid_out", reference), debit=_account("provider.payable", provider, node_class),
        credit=_account("chain.escrow"), amount=amount, code=Code.PAID_OUT, origin=origin, now=now,
        reference=reference,
    )  # fmt: skip


@transaction.atomic
def book_holdback_released(
    *, provider: UUID, node_class: UUID, amount: int, reference: bytes, now: datetime, origin: str = Origin.ORGANIC
) -> int:
    """Book that a class was proven and its holdback is earned: provider.holdback -> provider.payable, by origin."""
    return _move_by_origin(
        id=uuid_from("holdback_released", reference), debit=_account("provider.holdback", provider, node_class),
        credit=_account("provider.payable", provider, node_class), amount=amount, code=Code.HOLDBACK_RELEASED,
        origin=origin, now=now, reference=reference,
    )  # fmt: skip


@transaction.atomic
def book_holdback_forfeited(
    *, provider: UUID, node_class: UUID, buyer: UUID, amount: int, reference: bytes, now: datetime,
    origin: str = Origin.ORGANIC,
) -> int:  # fmt: skip
    """Book a breach while unproven: provider.holdback -> buyer.available."""
    return _move(
        id=uuid_from("holdback_forfeited", reference), debit=_account("provider.holdback", provider, node_class),
        credit=_account("buyer.available", buyer), amount=amount, code=Code.HOLDBACK_FORFEITED, origin=origin,
        now=now, reference=reference,
    )  # fmt: skip


# -- when the operator falls silent ------------------------------------------------------------------------------------


@transaction.atomic
def book_claim(
    *, provider: UUID, node_class: UUID, gross: int, fee: int, held: int, reference: bytes, now: datetime,
    origin: str = Origin.ORGANIC,
) -> int:  # fmt: skip
    """Book what a class claimed from the last root, as one group: suspense -> provider.payable, .holdback, fees.

    Nobody knows yet whose locked money it was: suspense is below zero by as much, until the next settlement covers it
    (`cover_posting`) or wind-up takes it off the buyers' shares (`book_refund`).
    """
    suspense = _account("suspense")
    lines = (
        ("earned", gross - fee - held, ("provider.payable", provider, node_class), Code.EARNED),
        ("holdback", held, ("provider.holdback", provider, node_class), Code.HELD_BACK),
        ("fee", fee, ("foundation.fees", None, None), Code.FEE),
    )
    postings = [
        Posting(uuid_from("claim", reference, name), suspense, _account(*target), amount, "posted", code, origin,
                reference=reference)
        for name, amount, target, code in lines
    ]  # fmt: skip
    return post_transfers(
        ledger=USDC6_LEDGER, postings=_linked(postings, uuid_from("claim", reference)), now=now
    )


def cover_posting(*, key: UUID, buyer: UUID, window: UUID, amount: int, origin: str = Origin.ORGANIC) -> Posting:
    """Return the posting by which a settlement debits a buyer for what was claimed: buyer.held -> suspense."""
    return Posting(
        cover_id(key), _account("buyer.held", buyer, window), _account("suspense"), amount, "posted",
        Code.COVERED, origin,
    )  # fmt: skip


@transaction.atomic
def book_refund(
    *, party: UUID, locked: int, amount: int, reference: bytes, now: datetime, origin: str = Origin.ORGANIC
) -> int:
    """Book a buyer's share after wind-up, as one group: of all its buyer.held, `amount` -> buyer.available.

    The rest of `locked` was claimed by classes: -> suspense. Each window gives its part, by largest remainder. Raises
    PostingRefused where the books hold another amount than the contract had locked. Booked before, it returns 0.
    """
    lock_ledger(USDC6_LEDGER)
    held = list(Account.objects.filter(ledger=USDC6_LEDGER, code="buyer.held", party=party).order_by("id"))
    if _is_refunded(reference, held, locked=locked, amount=amount):
        return 0
    if sum(account.balance_minor for account in held) != locked:
        raise PostingRefused("The books hold another amount than was locked.", locked=locked, party=str(party))
    shares = Money(amount, USDC6).split([account.balance_minor for account in held])
    postings = [
        Posting(uuid_from("refund", reference, name, account.pk), account.pk, target, part, "posted", Code.WOUND_UP,
                origin, reference=reference)
        for account, share in zip(held, shares, strict=True)
        for name, part, target in (
            ("share", share.minor, _account("buyer.available", party)),
            ("claimed", account.balance_minor - share.minor, _account("suspense")),
        )
    ]  # fmt: skip
    return post_transfers(ledger=USDC6_LEDGER, postings=_linked(postings, uuid_from("refund", reference)), now=now)


def _is_refunded(reference: bytes, held: Sequence[Account], *, locked: int, amount: int) -> bool:
    """Whether this refund is in the books: its money has left `held` then, and its parts cannot be worked out again.

    Raises PostingRefused where it was booked with other sums.
    """
    names = {uuid_from("refund", reference, name, each.pk): name for each in held for name in ("share", "claimed")}
    booked = list(Transfer.objects.filter(ledger=USDC6_LEDGER, id__in=names).values_list("id", "amount"))
    shared = sum(part for id, part in booked if names[id] == "share")
    if booked and (shared, sum(part for _, part in booked)) != (amount, locked):
        raise PostingRefused("The refund was booked with other amounts.", amount=amount, locked=locked)
    return bool(booked)


@transaction.atomic
def book_fees_withdrawn(*, amount: int, reference: bytes, now: datetime, origin: str = Origin.ORGANIC) -> int:
    """Book fees that were paid to the treasury, as anybody may cause: foundation.fees -> chain.escrow."""
    return _move(
        id=uuid_from("fees_withdrawn", reference), debit=_account("foundation.fees"), credit=_account("chain.escrow"),
        amount=amount, code=Code.FEES_WITHDRAWN, origin=origin, now=now, reference=reference,
    )  # fmt: skip


# -- stake -----------------------------------------------------------------------------------------------------------


@transaction.atomic
def book_stake(
    *, provider: UUID, node_class: UUID, amount: int, reference: bytes, now: datetime, origin: str = Origin.ORGANIC
) -> int:
    """Book a final stake: chain.stake -> stake.mirror."""
    return _move(
        id=uuid_from("stake", reference), debit=_account("chain.stake"),
        credit=_account("stake.mirror", provider, node_class), amount=amount, code=Code.STAKE, origin=origin, now=now,
        reference=reference,
    )  # fmt: skip


@transaction.atomic
def book_unstake(
    *, provider: UUID, node_class: UUID, amount: int, reference: bytes, now: datetime, origin: str = Origin.ORGANIC
) -> int:
    """Book a stake that was taken back after unbonding: stake.mirror -> chain.stake."""
    return _move(
        id=uuid_from("unstake", reference), debit=_account("stake.mirror", provider, node_class),
        credit=_account("chain.stake"), amount=amount, code=Code.UNSTAKE, origin=origin, now=now, reference=reference,
    )  # fmt: skip


@transaction.atomic
def book_slash(
    *, provider: UUID, node_class: UUID, buyer: UUID, to_buyer: int, to_pool: int, reference: bytes, now: datetime,
    origin: str = Origin.ORGANIC,
) -> int:  # fmt: skip
    """Book an executed slash as one group: the stake goes to the harmed buyer first, the rest to the pool.

    stake.mirror -> buyer.available, stake.mirror -> insurance.pool, and chain.escrow -> chain.stake for both, because
    the stake contract deposits both shares in the escrow contract.
    """
    mirror = _account("stake.mirror", provider, node_class)
    escrow, stake = _account("chain.escrow"), _account("chain.stake")
    lines = (
        ("buyer", mirror, _account("buyer.available", buyer), to_buyer, Code.SLASH_TO_BUYER),
        ("pool", mirror, _account("insurance.pool"), to_pool, Code.SLASH_TO_POOL),
        ("moved", escrow, stake, to_buyer + to_pool, Code.SLASH_MOVED),
    )
    postings = [
        Posting(uuid_from("slash", reference, name), debit, credit, amount, "posted", code, origin, reference=reference)
        for name, debit, credit, amount, code in lines
        if amount != 0
    ]
    linked = _linked(postings, uuid_from("slash", reference))
    return post_transfers(ledger=USDC6_LEDGER, postings=linked, now=now)
