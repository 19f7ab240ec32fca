"""When and by whom a machine is probed, and how soon a failure is known.

    HEALTHY --one failed report, 2 heartbeats missed, or a device missing--> SUSPECT (billing pauses, extra probe)
    HEALTHY or SUSPECT --2 of 3 reports of one instant fail, or the extra probe fails--> FAILED (not billed)
    SUSPECT --extra probe good--> HEALTHY      FAILED --3 good minutes--> HEALTHY

All verifiers of a day probe at the same secret second of a minute: with instants of their own, a host that is down for
the share u > 1/2 of a minute would be called down with 3u^2 - 2u^3, which is more than u. Two instants are less than 2
intervals apart, and FAILED needs no retry, so a failure is known in less than 2 intervals even of a lying agent.
"""

import hashlib
import hmac
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from pricing.errors import MeteringError

INTERVAL_SECONDS = 60
HEARTBEAT_SECONDS, HEARTBEATS_MISSED_MAX = 15, 2
GOOD_MINUTES_TO_RECOVER = 3
PANEL_SEATS = 3
CLOCK_SKEW_MAX_SECONDS = 2.0
RETRY_SECONDS = (5, 15)

State = Literal["HEALTHY", "SUSPECT", "FAILED"]


# --- who probes when -----------------------------------------------------------------------------------------------


def commitment_of(day_secret: bytes, *, day: str) -> bytes:
    """What is published before the day: SHA-256 over day and secret. Raises MeteringError unless it has 32 bytes."""
    if len(day_secret) != 32:
        raise MeteringError("A day secret has 32 bytes.", length=len(day_secret))
    return hashlib.sha256(b"grove probe day 1" + day.encode() + day_secret).digest()


def is_revealed(day_secret: bytes, *, day: str, commitment: bytes) -> bool:
    """Whether the secret shown after the day is the one that was committed to before it."""
    return hmac.compare_digest(commitment_of(day_secret, day=day), commitment)


def probe_second(day_secret: bytes, *, machine: str, minute: int) -> int:
    """The one second, 0 to 59, of a minute of the day (0 to 1439) at which every verifier probes a machine."""
    if not 0 <= minute < 1440:
        raise MeteringError("A day has minutes 0 to 1439.", minute=minute)
    return _draw(day_secret, f"second/{machine}/{minute}", 60)


def retry_after_seconds(day_secret: bytes, *, machine: str, minute: int, seat: int) -> int:
    """How long a verifier waits before its one retry of a failed probe: 5 to 15 seconds, secret as well."""
    first, last = RETRY_SECONDS
    return first + _draw(day_secret, f"retry/{machine}/{minute}/{seat}", last - first + 1)


def recheck_minute(day_secret: bytes, *, machine: str, interval: int, minutes: int) -> int:
    """The secret minute, 0 to `minutes` - 1, of an interval in which a machine's performance is checked again."""
    if minutes < 1:
        raise MeteringError("An interval has minutes.", minutes=minutes)
    return _draw(day_secret, f"re-check/{machine}/{interval}", minutes)


def panel_of(day_secret: bytes, *, machine: str, organisations: Sequence[str], owner: str) -> tuple[str, ...]:
    """The three organisations that probe a machine on a day, never its owner's. Raises MeteringError for too few."""
    pool = sorted(set(organisations) - {owner})
    if len(pool) < PANEL_SEATS:
        raise MeteringError("A panel needs three organisations besides the owner.", organisations=len(pool))
    ranked = sorted(pool, key=lambda name: hmac.digest(day_secret, f"seat/{machine}/{name}".encode(), "sha256"))
    return tuple(ranked[:PANEL_SEATS])


def _draw(day_secret: bytes, label: str, below: int) -> int:
    digest = hmac.digest(day_secret, label.encode(), "sha256")
    return int.from_bytes(digest[:8], "big") % below  # 64 bits over 60: the bias is under 1e-17


@dataclass(frozen=True)
class ProbeReport:
    """What one verifier saw of one machine in one minute."""

    anchors_ok: tuple[bool, bool, bool]
    clock_skew_seconds: float  # against its own time sources; the provider's clock is never used
    echo_ok: bool
    port_ok: bool
    devices_seen: int
    is_retry_of_failure: bool = False

    def is_valid(self) -> bool:
        """A verifier whose anchors fail or whose clock is off proves nothing about the machine."""
        return all(self.anchors_ok) and abs(self.clock_skew_seconds) <= CLOCK_SKEW_MAX_SECONDS

    def has_failed(self, *, devices_leased: int) -> bool:
        """No echo, no workload, or fewer devices than were leased: a part is not the whole."""
        return not (self.echo_ok and self.port_ok and self.devices_seen >= devices_leased)


# --- the automaton -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Health:
    """How a machine of a lease stands; times are unix seconds."""

    state: State
    since: float
    good_minutes: int = 0  # in a row, while FAILED
    heartbeat_at: float | None = None

    @property
    def is_billed(self) -> bool:
        """Whether minutes are billed at once. Those paused as SUSPECT that prove good are billed afterwards."""
        return self.state == "HEALTHY"


def accepted(at: float) -> Health:
    """The health of a machine whose acceptance probe passed."""
    return Health("HEALTHY", at)


def after_round(health: Health, *, valid: int, failed: int, at: float) -> Health:
    """The health after the reports of one instant: `failed` of `valid` ones. One network error ends nothing."""
    if not 0 <= failed <= valid:
        raise MeteringError("Failed reports are part of the valid ones.", valid=valid, failed=failed)
    if valid >= 2 and 3 * failed >= 2 * valid:
        return _fall(health, "FAILED", at)
    if failed:
        return _fall(health, "FAILED" if health.state == "FAILED" else "SUSPECT", at)
    if valid < 2:
        return health
    if health.state == "FAILED":
        good = health.good_minutes + 1
        return replace(health, good_minutes=good) if good < GOOD_MINUTES_TO_RECOVER else _rise(health, at)
    return _rise(health, at) if health.state == "SUSPECT" else health


def after_extra_probe(health: Health, *, failed: bool, at: float) -> Health:
    """The health after the probe that a suspicion asks for at once; it is not counted in any test."""
    if health.state != "SUSPECT":
        return health
    return _fall(health, "FAILED", at) if failed else _rise(health, at)


def after_heartbeat(health: Health, *, devices: int, devices_leased: int, at: float) -> Health:
    """The health after a heartbeat; a missing device is a suspicion, whoever says so."""
    beaten = replace(health, heartbeat_at=at)
    return _fall(beaten, "SUSPECT", at) if devices < devices_leased and health.state == "HEALTHY" else beaten


def after_silence(health: Health, *, at: float) -> Health:
    """The health when no heartbeat came for 30 seconds or more."""
    is_late = health.heartbeat_at is not None and at - health.heartbeat_at >= HEARTBEAT_SECONDS * HEARTBEATS_MISSED_MAX
    return _fall(health, "SUSPECT", at) if is_late and health.state == "HEALTHY" else health


def _fall(health: Health, state: State, at: float) -> Health:
    return replace(health, state=state, good_minutes=0, since=health.since if health.state == state else at)


def _rise(health: Health, at: float) -> Health:
    return replace(health, state="HEALTHY", good_minutes=0, since=at)
