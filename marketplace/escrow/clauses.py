"""What stands in every lease beside its figures: how the buyer leaves again, and what a renewal may cost (M-039).

A lease keeps the version it was made under, so that a later wording changes no lease that runs.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from marketplace.escrow.models import LEASE_CLAUSES, Lease

PORTABILITY = timedelta(hours=72)


@dataclass(frozen=True, slots=True)
class Clause:
    """One clause as both parties read it."""

    name: str
    words: str


def clauses_of(lease: Lease) -> list[Clause]:
    """The clauses of a lease in the wording it was made under, with its own dates and cap."""
    assert lease.clauses == LEASE_CLAUSES, "a wording that is gone from here is still in force somewhere"
    until = lease.window.slot_at(lease.until_slot) + PORTABILITY
    return [
        Clause("portability", "The buyer's data, images and results leave when it wants, in the formats they came in, "
               f"at no charge and without egress fee. The provider keeps them until {until:%d %B %Y, %H:%M} UTC; "
               "then it deletes them and says so."),
        Clause("price", "All-in: egress and storage are in the price per unit-hour, and nothing else can be charged."),
        Clause("renewal", _renewal(lease)),
    ]  # fmt: skip


def _renewal(lease: Lease) -> str:
    entry = getattr(lease.demand, "standing_entry", None)
    if entry is None:
        return "It ends by itself; a next lease is a new demand, and nobody is bound to one."
    return (f"It renews with each window while the buyer's demand stands, at its limit at most and never more than "
            f"{entry.cap_ppm / 10_000:g} % above the last price paid; the buyer ends it at any time.")  # fmt: skip
