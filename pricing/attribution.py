"""Whose doing a bad minute was, from the evidence on record. Only PROVIDER enters credits, breaches and slashes.

    MAINT           announced at least 72 h before it begins, at most 240 minutes a month, the first ones of them
    FORCE_MAJEURE   two persons signed it, each with evidence
    NETWORK         fewer than two vantages had their anchors, or two judges signed it: the path failed, not the machine
    BUYER           two judges signed it, or the machine answers but the buyer's workload is stopped, over quota or
                    unfunded
    UNKNOWN         nobody was able to see
    PROVIDER        everything else: the vantages worked and the machine did not answer

A bad minute is unpaid whoever caused it, except BUYER, and MAINT within its limit.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from pricing.errors import MeteringError

Cause = Literal["PROVIDER", "BUYER", "NETWORK", "FORCE_MAJEURE", "MAINT", "UNKNOWN"]
NOTICE_MINUTES_MIN = 72 * 60
MAINTENANCE_MINUTES_MAX = 240  # a month
SIGNERS_NEEDED = 2  # different persons, for each cause that is signed
PAID_CAUSES: tuple[Cause, ...] = ("BUYER", "MAINT")


@dataclass(frozen=True)
class MinuteEvidence:
    """What is on record about one minute in which the probes of a machine failed or nobody was able to see."""

    valid_reports: int  # of the verifiers whose anchors and clock were good
    vantages_without_anchors: int
    echo_ok: bool  # the machine's own agent answered the nonce
    buyer_stopped: bool = False  # stopped, over quota or unfunded, as the buyer's own record says
    is_maintenance: bool = False  # inside a notice that counts, and within the month's allowance
    force_majeure_signers: tuple[str, ...] = ()
    network_signers: tuple[str, ...] = ()
    buyer_signers: tuple[str, ...] = ()


@dataclass(frozen=True)
class MaintenanceNotice:
    """An announced span; all in minutes of one month, `announced` may lie before it."""

    announced: int
    start: int
    end: int

    def counts(self) -> bool:
        """Whether it was announced 72 h ahead. Raises MeteringError for a span that runs backwards."""
        if self.end <= self.start:
            raise MeteringError("A maintenance ends after it starts.", start=self.start, end=self.end)
        return self.start - self.announced >= NOTICE_MINUTES_MIN


def attribute(evidence: MinuteEvidence) -> Cause:
    """The cause of one bad minute. Maintenance and two signatures come first: they were on record before.

    Where judges signed for more than one cause, the one that pays less goes before: NETWORK before BUYER.
    """
    if evidence.is_maintenance:
        return "MAINT"
    signed: tuple[tuple[Cause, tuple[str, ...]], ...] = (
        ("FORCE_MAJEURE", evidence.force_majeure_signers), ("NETWORK", evidence.network_signers),
        ("BUYER", evidence.buyer_signers),
    )  # fmt: skip
    for cause, signers in signed:
        if len(set(signers)) >= SIGNERS_NEEDED:
            return cause
    if evidence.valid_reports < 2:
        return "NETWORK" if evidence.vantages_without_anchors >= 2 else "UNKNOWN"
    if evidence.echo_ok and evidence.buyer_stopped:
        return "BUYER"
    return "PROVIDER"


def is_paid(cause: Cause) -> bool:
    """Whether a bad minute of this cause is paid all the same."""
    return cause in PAID_CAUSES


def maintenance_minutes(notices: Sequence[MaintenanceNotice]) -> set[int]:
    """The minutes of a month that maintenance excuses: of notices that count, the first 240 in order of time.

    Raises MeteringError when two that count overlap: one is open at a time.
    """
    spans = sorted((notice for notice in notices if notice.counts()), key=lambda notice: notice.start)
    for before, after in pairwise(spans):
        if after.start < before.end:
            raise MeteringError("One maintenance at a time.", start=after.start, open_until=before.end)
    minutes = [minute for notice in spans for minute in range(notice.start, notice.end)]
    return set(minutes[:MAINTENANCE_MINUTES_MAX])
