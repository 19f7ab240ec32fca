"""Constructor arguments by name, in the order the contracts take them; production values as defaults.

All durations are seconds, all amounts micro-units of the stablecoin. `README.md` explains each argument.
"""

from collections.abc import Sequence
from dataclasses import astuple, dataclass
from typing import Any, Final

from contracts.jurisdictions import LIST_HASH

HOUR: Final = 3600
DAY: Final = 24 * HOUR
GOVERNANCE_DELAY: Final = 48 * HOUR
CLAIM_SILENCE: Final = 3 * DAY
SILENCE: Final = 14 * DAY
HOLDBACK_DELAY: Final = 30 * DAY
NO_LIMIT: Final = 2**64 - 1

Seat = tuple[str, int]  # (signer address, organisation number 1..255)


@dataclass(frozen=True)
class Delays:
    """Clocks of stake.vy in seconds, in ABI order."""

    veto: int = 72 * HOUR  # from request to execution
    lapse: int = 14 * DAY  # from request (or uphold) until it can no longer be executed
    appeal: int = 14 * DAY  # from dispute until the arbiters can no longer uphold
    unbonding: int = 21 * DAY
    probation: int = 14 * DAY  # from the first challenge to the first baseline
    validity_max: int = 90 * DAY  # of a benchmark
    breach_age_max: int = 17 * DAY  # of a breach when it is requested


@dataclass(frozen=True)
class Panels:
    """Who sits on the three panels, and how many of each must sign."""

    verifiers: Sequence[Seat]
    compliance: Sequence[Seat]
    slashers: Sequence[Seat]
    quorums: tuple[int, int, int] = (5, 3, 7)
    slashers_min: int = 9  # fewer seats than this: slashing is off


def token_arguments(*, name: str = "Grove Test Dollar", symbol: str = "gUSD", minter: str) -> tuple[Any, ...]:
    """Return the arguments of token.vy. `name` is also the domain name that permits are signed for."""
    return (name, symbol, minter)


def anchor_arguments(*, poster: str, governance: str, governance_delay: int = GOVERNANCE_DELAY) -> tuple[Any, ...]:
    """Return the arguments of anchor.vy."""
    return (poster, governance, governance_delay)


def stake_arguments(
    *,
    token: str,
    governance: str,
    pauser: str,
    veto_role: str,
    arbiters: Sequence[str],
    panels: Panels,
    arbiter_quorum: int = 2,
    delays: Delays | None = None,
    governance_delay: int = GOVERNANCE_DELAY,
    jurisdictions_hash: bytes = LIST_HASH,
) -> tuple[Any, ...]:
    """Return the arguments of stake.vy; its deployer calls `bind_escrow` once escrow stands."""
    return (
        token,
        governance,
        pauser,
        veto_role,
        list(arbiters),
        arbiter_quorum,
        list(panels.verifiers),
        list(panels.compliance),
        list(panels.slashers),
        list(panels.quorums),
        panels.slashers_min,
        astuple(delays or Delays()),
        governance_delay,
        jurisdictions_hash,
    )


def escrow_arguments(
    *,
    token: str,
    stake: str,
    operator: str,
    pauser: str,
    governance: str,
    treasury: str,
    fee_bps: int,
    unproven_cap: int,
    settle_limit: int = NO_LIMIT,
    claim_silence: int = CLAIM_SILENCE,
    silence: int = SILENCE,
    holdback_delay: int = HOLDBACK_DELAY,
    governance_delay: int = GOVERNANCE_DELAY,
) -> tuple[Any, ...]:
    """Return the arguments of escrow.vy."""
    return (
        token,
        stake,
        operator,
        pauser,
        governance,
        treasury,
        fee_bps,
        unproven_cap,
        settle_limit,
        claim_silence,
        silence,
        holdback_delay,
        governance_delay,
    )
