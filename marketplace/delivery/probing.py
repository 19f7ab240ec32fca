"""Who probes which lease at which second: the secret of a day, its panels, and the orders that verifiers fetch.

A day's secret is drawn and committed to a day ahead, lies under the market's key until the day is over, and is shown
then: anybody can recompute every second and every panel. Whoever learned it early could hide an outage between two
instants; it can never make an honest machine fail.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from uuid import UUID

from django.db import transaction

from ledger.ids import uuid7
from marketplace.agent.errors import StatementForged
from marketplace.agent.keys import check_enrolment
from marketplace.delivery.evidence_models import LeaseHealth, ProbeDay, Pulse, WitnessKey
from marketplace.delivery.promises import Promise, promises
from marketplace.errors import BadInput, NotOnPanel, NoWitnessKey, ReportForged
from marketplace.escrow.models import Lease
from marketplace.governance.services import record
from marketplace.parties.models import Party
from marketplace.supply.envelopes import lock, unlock
from marketplace.supply.party_keys import newest_version, party_key
from pricing.errors import MeteringError
from pricing.health import INTERVAL_SECONDS, PANEL_SEATS, commitment_of, panel_of, probe_second, retry_after_seconds

MARKET = UUID(int=0)  # whose key the secrets lie under: no party's
DAYS_AHEAD = 1
ORDERS_AHEAD_MINUTES = 60
RUNNING = ("locked", "delivering")


@transaction.atomic
def enrol_witness_key(*, party: Party, public_key: str, signature: str, now: datetime) -> WitnessKey:
    """Take the key by which a verifier or a buyer signs what it saw; an earlier one is revoked.

    `signature` is over the enrolment prefix and `witness:` with the party's slug, by the key itself. Raises BadInput
    for a party that witnesses nothing, ReportForged for a key somebody else holds.
    """
    if not (party.kind == "verifier" or party.is_buyer):
        raise BadInput("Verifiers and buyers have witness keys; a provider's machines have their own.", field="party")
    statement = {"public_key": public_key, "token": f"witness:{party.slug}", "signature": signature}
    try:
        public_bytes = check_enrolment(statement)
    except StatementForged as error:
        raise ReportForged("The enrolment is not signed by its own key.", field="signature") from error
    Party.objects.select_for_update().get(pk=party.pk)
    standing = WitnessKey.objects.filter(public_key=public_bytes).first()
    if standing and standing.party_id == party.pk and standing.revoked_at is None:
        return standing
    if standing:
        raise BadInput("That key was used before; make a fresh one.", field="public_key")
    WitnessKey.objects.filter(party=party, revoked_at=None).update(revoked_at=now)
    key = WitnessKey.objects.create(id=uuid7(now), party=party, public_key=public_bytes, enrolled_at=now)
    record(actor=party.slug, action="enrol_witness_key", subject=party.slug, reason="key signed by itself", now=now,
           public_key=public_key)  # fmt: skip
    return key


def verifier_keys() -> list[str]:
    """Return the witness keys of all verifiers, in hex and in order: whose statements a machine may answer."""
    rows = WitnessKey.objects.filter(revoked_at=None, party__kind="verifier").values_list("public_key", flat=True)
    return sorted(bytes(key).hex() for key in rows)


def witness_key(party: Party) -> bytes:
    """Return the public key by which a party signs now. Raises NoWitnessKey."""
    key = WitnessKey.objects.filter(party=party, revoked_at=None).first()
    if key is None:
        raise NoWitnessKey("Enrol a witness key first.", party=party.slug)
    return bytes(key.public_key)


@transaction.atomic
def tend_probe_days(*, now: datetime) -> int:
    """Commit to the secrets of today and tomorrow, and show those of the days that are over; returns how many moved.

    A day's verifiers are those with a key when it is committed to: nobody joins a panel after the draw. While there
    are too few for a panel nothing is drawn.
    """
    today, moved = now.astimezone(UTC).date(), 0
    can_draw = WitnessKey.objects.filter(revoked_at=None, party__kind="verifier").count() >= PANEL_SEATS
    for day in (today, today + timedelta(days=DAYS_AHEAD)):
        if can_draw and not ProbeDay.objects.filter(pk=day).exists():
            _commit(day, now)
            moved += 1
    for row in ProbeDay.objects.select_for_update().filter(day__lt=today, revealed=None).order_by("day"):
        row.revealed, row.revealed_at = day_secret(row), now
        row.save(update_fields=["revealed", "revealed_at"])
        record(actor="market", action="reveal_probe_day", subject=str(row.day), reason="the day is over", now=now,
               secret=bytes(row.revealed).hex())  # fmt: skip
        moved += 1
    return moved


def _commit(day: date, now: datetime) -> None:
    secret, version = secrets.token_bytes(32), newest_version()
    known = WitnessKey.objects.filter(revoked_at=None, party__kind="verifier").order_by("party__slug")
    organisations = list(known.values_list("party__slug", flat=True))
    commitment = commitment_of(secret, day=day.isoformat())
    _, made = ProbeDay.objects.get_or_create(
        day=day,
        defaults={
            "commitment": commitment, "organisations": organisations, "committed_at": now,
            "locked": version.to_bytes(4, "big") + lock(party_key(MARKET, version), secret, _about(day)),
        },
    )  # fmt: skip
    if made:
        record(actor="market", action="commit_probe_day", subject=day.isoformat(), reason="drawn before the day",
               now=now, commitment=commitment.hex(), organisations=organisations)  # fmt: skip


def day_secret(row: ProbeDay) -> bytes:
    """Return the secret of a day. Raises SealUnreadable where the market's key is lost."""
    return bytes(row.revealed) if row.revealed else _opened(row.day, bytes(row.locked))


@lru_cache(maxsize=64)
def _opened(day: date, locked: bytes) -> bytes:
    return unlock(party_key(MARKET, int.from_bytes(locked[:4], "big")), locked[4:], _about(day))


def _about(day: date) -> bytes:
    return f"probe day:{day.isoformat()}".encode()


@dataclass(frozen=True, slots=True)
class Draw:
    """What a day's secret says of one lease: its panel, and its second in each minute."""

    lease_id: UUID
    secret: bytes
    panel: tuple[str, ...]
    committed_at: datetime

    def second(self, minute: int) -> int:
        """The second, 0 to 59, of minute 0 to 1439 of the day."""
        return probe_second(self.secret, machine=str(self.lease_id), minute=minute)

    def retry_seconds(self, minute: int, verifier: str) -> int:
        """How long that verifier waits before its retry."""
        seat = self.panel.index(verifier)
        return retry_after_seconds(self.secret, machine=str(self.lease_id), minute=minute, seat=seat)


class Draws:
    """The draws of some leases, each day looked up once."""

    def __init__(self) -> None:
        self._days: dict[date, ProbeDay | None] = {}
        self._draws: dict[tuple[UUID, date], Draw] = {}
        self._owners: dict[str, str] = {}

    def of(self, lease: Lease, day: date) -> Draw:
        """Return what the day's secret says of a lease. Raises NotOnPanel where no panel could be drawn."""
        if (lease.pk, day) not in self._draws:
            self._draws[lease.pk, day] = self._draw(lease, day)
        return self._draws[lease.pk, day]

    def _draw(self, lease: Lease, day: date) -> Draw:
        if day not in self._days:
            self._days[day] = ProbeDay.objects.filter(pk=day).first()
        row = self._days[day]
        if row is None:
            raise NotOnPanel("No secret was committed to for that day.", day=day.isoformat())
        secret, owner = day_secret(row), lease.provider.owner_key
        pool = [slug for slug in row.organisations if self._owner(slug) not in (owner, lease.buyer.owner_key)]
        try:
            panel = panel_of(secret, machine=str(lease.pk), organisations=pool, owner=lease.provider.slug)
        except MeteringError as error:
            raise NotOnPanel("Too few verifiers are independent of this lease.", day=day.isoformat()) from error
        return Draw(lease.pk, secret, panel, row.committed_at)

    def _owner(self, slug: str) -> str:
        if slug not in self._owners:
            self._owners[slug] = Party.objects.select_related("parent").get(slug=slug).owner_key
        return self._owners[slug]


@dataclass(frozen=True, slots=True)
class Order:
    """One probe that a verifier is asked for: at `probe_at`, and after a failure once more `retry_seconds` later."""

    lease: Lease
    minute_at: datetime
    probe_at: datetime
    retry_seconds: int
    devices: int
    pulse: Pulse | None


def probe_orders(*, verifier: Party, from_at: datetime, minutes: int, now: datetime) -> list[Order]:
    """Return the probes of one verifier in so many minutes from `from_at`, by time; nothing beyond the next hour.

    Raises BadInput for a party that is no verifier or an odd span.
    """
    if verifier.kind != "verifier":
        raise BadInput("Only verifiers are ordered to probe.", field="party")
    if not 1 <= minutes <= ORDERS_AHEAD_MINUTES:
        raise BadInput(f"Ask for 1 to {ORDERS_AHEAD_MINUTES} minutes.", field="minutes")
    start = int(from_at.timestamp()) // INTERVAL_SECONDS * INTERVAL_SECONDS
    last = min(start + minutes * INTERVAL_SECONDS, int(now.timestamp()) + ORDERS_AHEAD_MINUTES * INTERVAL_SECONDS)
    leases = running_leases()
    owed, draws = promises(leases=leases), Draws()
    pulses = {row.node_class_id: row for row in Pulse.objects.filter(node_class__in={a.node_class_id for a in leases})}
    found = [
        order
        for lease in leases
        for order in _orders_of(lease, verifier.slug, range(start, last, INTERVAL_SECONDS), owed, draws,
                                pulses.get(lease.node_class_id))
    ]  # fmt: skip
    return sorted(found, key=lambda order: (order.probe_at, str(order.lease.pk)))


def running_leases() -> list[Lease]:
    """Return the leases whose window delivers now."""
    rows = Lease.objects.filter(state__in=RUNNING, window__state__in=("CLEARED", "DELIVERING"))
    return list(rows.select_related("window", "node_class", "provider__parent", "buyer__parent").order_by("pk"))


def _orders_of(
    lease: Lease, verifier: str, minutes: Sequence[int], owed: Mapping[tuple[UUID, int], Promise], draws: Draws,
    pulse: Pulse | None,
) -> Iterator[Order]:  # fmt: skip
    for stamp in minutes:
        minute_at = datetime.fromtimestamp(stamp, UTC)
        promise = owed.get((lease.pk, slot_of(lease, minute_at)))
        if promise is None:
            continue
        try:
            draw = draws.of(lease, minute_at.date())
        except NotOnPanel:
            continue
        if verifier in draw.panel and draw.committed_at <= minute_at:
            minute = minute_of_day(minute_at)
            yield Order(
                lease, minute_at, minute_at + timedelta(seconds=draw.second(minute)),
                draw.retry_seconds(minute, verifier), promise.units, pulse,
            )  # fmt: skip


def suspects(*, verifier: Party, now: datetime) -> list[Lease]:
    """Return the leases on a verifier's panels that are SUSPECT: each is to be probed once more, at once."""
    found, draws = [], Draws()
    suspected = set(LeaseHealth.objects.filter(state="SUSPECT").values_list("lease_id", flat=True))
    for lease in running_leases():
        if lease.pk not in suspected:
            continue
        try:
            if verifier.slug in draws.of(lease, now.astimezone(UTC).date()).panel:
                found.append(lease)
        except NotOnPanel:
            continue
    return found


def slot_of(lease: Lease, at: datetime) -> int:
    """Return the slot of the lease's window in which a moment lies."""
    return int((at - lease.window.starts_at) // timedelta(hours=1))


def minute_of_day(at: datetime) -> int:
    """Return the minute of the UTC day, 0 to 1439."""
    utc = at.astimezone(UTC)
    return utc.hour * 60 + utc.minute

