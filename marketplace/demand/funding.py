"""What may stand behind a demand: money in escrow, card money, an approved purchase order, credits of a grant.

Whatever it is, the most that a demand can cost is held in the books; interest holds nothing and counts nowhere. Orders
and grants are lines with a limit: the Foundation brings their money into escrow once another person has approved them,
and what is left of it is kept for the demands that name the line.
"""

from __future__ import annotations

from datetime import datetime

from django.db.models import QuerySet, Sum

from ledger.chart import Origin
from ledger.models import CardIntent, ChainIntent
from ledger.selectors import spendable
from marketplace.demand.funding_models import LINE_KINDS, FundingLine
from marketplace.demand.models import FUNDING_KINDS, Demand
from marketplace.errors import BadInput, LineNotDecided, NotFunded, ReferenceReused
from marketplace.parties.models import Party

MICROS_PER_CENT = 10_000
COMMITTED = ("funded", "awarded")
TAKEN_ALONG = ("locking", "running", "fallen")  # what a backup took along stands under its own lease, or came back


def choose_funding(
    *, demand: Demand, party: Party, kind: str, number: str, now: datetime
) -> FundingLine | None:
    """Check that money of this kind covers a demand at its limit; returns the line behind it, if one is named.

    Raises BadInput, LineNotDecided, NotFunded. The lock on the line lasts as long as the caller's transaction.
    """
    require_kind(kind or "nothing")
    # Two demands of one buyer are funded one after the other, so that the same money stands behind one of them.
    Party.objects.select_for_update(of=("self",), no_key=True).get(pk=party.pk)
    if kind in LINE_KINDS:
        return _line(demand, party, kind, number, now)
    if number:
        raise BadInput("Only a purchase order or a grant has a number.", field="number")
    free = free_micros(party)
    if kind == "card":
        free = min(free, card_left_micros(party))
    if free < demand.hold_micros:
        raise NotFunded(
            "Your available money does not cover this demand at its limit.", needed_micros=demand.hold_micros,
            available_micros=max(0, free),
            kept_for_orders_micros=kept_for_lines_micros(party),
        )  # fmt: skip
    return None


def require_kind(kind: str) -> None:
    """Refuse a kind of funding that there is not; nothing said is no kind yet. Raises BadInput."""
    if kind and kind not in FUNDING_KINDS:
        raise BadInput(f"A demand is funded by {', '.join(FUNDING_KINDS)}.", field="funding")


def require_same_funding(demand: Demand, kind: str, number: str) -> None:
    """Let a funded demand be funded again by what funds it. Raises ReferenceReused for anything else."""
    standing = demand.funding_line.number if demand.funding_line else ""
    if (kind and kind != demand.funding_kind) or (number and number != standing):
        raise ReferenceReused("Something else funds this demand already.", field="number" if number else "funding",
                              funded_by=demand.funding_kind)  # fmt: skip


def named_order(*, party: Party, number: str) -> FundingLine | None:
    """The buyer's purchase order of that number, which a demand names before it is funded by it; None for none.

    It may still wait for another person; one that was refused is no order. Raises BadInput.
    """
    if not number:
        return None
    if (found := named_orders(party).filter(number=number).first()) is None:
        raise BadInput("You have no such purchase order; ask for it under Commitments first.", field="purchase_order")
    return found


def named_orders(party: Party) -> QuerySet[FundingLine]:
    """The purchase orders that a buyer's demand may name."""
    return FundingLine.objects.filter(party=party, kind="purchase_order").exclude(state="REFUSED")


def what_funds(demand: Demand, kind: str, number: str) -> tuple[str, str]:
    """What is meant by this kind and number: an order that the demand names funds it, and nothing else does.

    Nothing said means that order, or money in escrow. Raises BadInput.
    """
    order = demand.funding_line
    if order is None:
        return kind or "escrow", number
    if (kind and kind != order.kind) or (number and number != order.number):
        raise BadInput(f"This demand names {order}; it is funded by that.", field="funding", number=order.number)
    return order.kind, order.number


def origin_of(demand: Demand) -> str:
    """The origin of every transfer that a demand's money makes: what a grant pays is never organic revenue."""
    return Origin.GRANT if demand.funding_kind == "grant" else Origin.ORGANIC


def left_micros(line: FundingLine) -> int:
    """What of a line no demand uses yet, in micro-USD; an awarded demand counts at its limit."""
    return line.limit_micros - sum(row.hold_micros for row in line.demands.filter(state__in=COMMITTED))


def kept_micros(line: FundingLine) -> int:
    """What of a line's money lies among its buyer's and is not the buyer's to use otherwise, in micro-USD.

    Of an order or grant what no demand uses; of a voucher also what its demands gave back, until it is closed: it is
    the programme's. A voucher that is being closed keeps nothing more: its hold does.
    """
    voucher = getattr(line, "voucher", None)
    if voucher is None:
        return left_micros(line)
    if voucher.state != "REDEEMED":
        return 0
    return line.limit_micros - sum(_away_micros(row) for row in line.demands.filter(state__in=COMMITTED))


def free_micros(party: Party) -> int:
    """What a buyer may use as it likes, in micro-USD: available, and not kept for an order, a grant or a voucher."""
    return spendable(code="buyer.available", party=party.pk).minor - kept_for_lines_micros(party)


def kept_for_lines_micros(party: Party) -> int:
    """What of a buyer's available money is kept for its orders, grants and vouchers, in micro-USD."""
    return sum(map(kept_micros, _arrived_lines(party)))


def _away_micros(demand: Demand) -> int:
    """What of a voucher a demand has taken out of its buyer's available money: held, locked or spent."""
    leases = list(demand.leases.exclude(state="refused"))
    if demand.state == "funded" or (not leases and demand.window.state not in ("SETTLED", "FAILED")):
        return demand.hold_micros
    away = 0
    for lease in leases:
        line = getattr(lease, "settlement_line", None)
        back = sum(row.amount_micros for row in lease.early_credits.exclude(posted_at=None))
        back += sum(row.returned_micros for row in lease.step_ins.filter(state__in=TAKEN_ALONG))
        away += line.earned_micros if line is not None and lease.state == "settled" else lease.fee_micros - back
    return away


def card_left_micros(party: Party) -> int:
    """Card money that reached escrow and is behind no demand yet, in micro-USD."""
    brought = CardIntent.objects.filter(party=party.pk, kind="exchange", state="done")
    cents = brought.aggregate(sum=Sum("cents"))["sum"] or 0
    used = Demand.objects.filter(party=party, funding_kind="card", state__in=COMMITTED)
    return cents * MICROS_PER_CENT - sum(row.hold_micros for row in used)


def _line(demand: Demand, party: Party, kind: str, number: str, now: datetime) -> FundingLine:
    line = FundingLine.objects.select_for_update().filter(party=party, kind=kind, number=number).first()
    if line is None:
        raise BadInput("You have no such purchase order or grant.", field="number")
    if line.state != "APPROVED":
        raise LineNotDecided("It waits for another person, or was refused.", number=number, state=line.state)
    if line.valid_until <= now:
        raise LineNotDecided("It is over.", number=number, valid_until=line.valid_until.isoformat())
    if (left := left_micros(line)) < demand.hold_micros:
        raise NotFunded(
            "The order or grant does not cover this demand at its limit.", needed_micros=demand.hold_micros,
            left_micros=left, number=number,
        )  # fmt: skip
    return line


def _arrived_lines(party: Party) -> list[FundingLine]:
    """Approved lines of a buyer whose money is in escrow."""
    lines = list(FundingLine.objects.filter(party=party, state="APPROVED"))
    if not lines:
        return []
    keys = ChainIntent.objects.filter(key__in=[advance_key(line) for line in lines], state="final")
    arrived = set(keys.values_list("key", flat=True))
    return [line for line in lines if advance_key(line) in arrived]


def advance_key(line: FundingLine) -> str:
    """The key of the deposit that brings a line's money into escrow."""
    return f"advance:{line.pk}"
