"""What of a node class may be sold, hour by hour, and to whom its hardware and earnings belong.

Every rule names the provider's seat that made it. A rule that would take away what is already offered or awarded is
refused (`capacity_promised`): a promise is kept before a plan.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from django.db import transaction
from django.db.models import QuerySet

from ledger.ids import uuid7
from ledger.money import USDC6, Money
from ledger.rails.signer import signer
from marketplace.capacity.models import (
    POLICIES,
    CalendarRule,
    CarveOut,
    Device,
    FundingSource,
    FundingTag,
    RevenueSplit,
    SplitShare,
    SubSite,
)
from marketplace.catalogue.limits import require_name, require_whole
from marketplace.catalogue.services import find_named
from marketplace.errors import (
    BadInput,
    CapacityPromised,
    CapacityReserved,
    DeviceTaken,
    NotYours,
    Overlapping,
    PastDate,
    PriceOutOfRange,
    SharesDoNotSum,
)
from marketplace.governance.services import record
from marketplace.parties.models import Party, Seat
from marketplace.parties.roles import require_act

Site = NodeClass = Any  # rows of later stages, which hand them in
HOUR = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Times:
    """From when until when a rule holds."""

    from_at: datetime
    until_at: datetime

    def require(self, now: datetime) -> None:
        if self.from_at < now:
            raise PastDate("A rule begins in the future.", field="from_at", now=now.isoformat())
        if self.until_at <= self.from_at:
            raise PastDate("A rule ends after it begins.", field="until_at")


# -- what is never sold ------------------------------------------------------------------------------------------------
@transaction.atomic
def set_carve_out(
    *, seat: Seat, node_class: NodeClass, units: int, times: Times, purpose: str, now: datetime
) -> CarveOut:
    """Keep units for the provider's own researchers; they are neither bid nor awarded in that time.

    Raises Overlapping where another carve-out holds for part of it, and CapacityPromised where bids or awards stand on
    those units.
    """
    locked = own_node_class(seat, node_class)
    times.require(now)
    require_name(purpose, field="purpose", longest=120)
    if not 1 <= require_whole(units, field="units") <= locked.units:
        raise BadInput("A carve-out is one unit to all units of the class.", field="units", most=locked.units)
    meets = locked.carve_outs.filter(from_at__lt=times.until_at, until_at__gt=times.from_at).first()
    if meets:
        raise Overlapping("Another carve-out holds for part of that time.", field="from_at",
                          until_at=meets.until_at.isoformat())  # fmt: skip
    _require_unpromised(locked, times, units)
    made = CarveOut.objects.create(id=uuid7(now), node_class=locked, units=units, from_at=times.from_at,
                                   until_at=times.until_at, purpose=purpose, seat=seat, made_at=now)  # fmt: skip
    record(actor=seat.user.email, action="set_carve_out", subject=locked.pk, reason=purpose, now=now, units=units)
    return made


@transaction.atomic
def add_funding_source(*, seat: Seat, code: str, name: str, policy: str, source: str, now: datetime) -> FundingSource:
    """Add a grant or programme to the catalogue, with its rule: free, cost recovery, or no commercial use at all."""
    require_act(seat, "review", "add funding sources")
    if policy not in POLICIES:
        raise BadInput(f"A policy is one of {', '.join(POLICIES)}.", field="policy")
    for field, text, longest in (("code", code, 40), ("name", name, 120), ("source", source, 200)):
        require_name(text, field=field, longest=longest)
    row, is_new = FundingSource.objects.get_or_create(
        code=code, defaults={"name": name, "policy": policy, "source": source}
    )
    if is_new:
        record(actor=seat.user.email, action="add_funding_source", subject=code, reason=source, now=now, policy=policy)
    return row


@transaction.atomic
def tag_funding(
    *, seat: Seat, node_class: NodeClass, source_code: str, units: int, times: Times, floor_micros: int | None = None,
    ceiling_micros: int | None = None, now: datetime,
) -> FundingTag:  # fmt: skip
    """Say whose money paid for units. Forbidden ones are not sold; under cost recovery an ask has a floor and ceiling.

    Prices are micro-USD per unit-hour.
    """
    locked = own_node_class(seat, node_class)
    times.require(now)
    source = find_named(FundingSource, source_code, field="source_code")
    if source is None:
        raise BadInput("Choose a funding source.", field="source_code")
    if not 1 <= require_whole(units, field="units") <= locked.units:
        raise BadInput("A tag is on one unit to all units of the class.", field="units", most=locked.units)
    if (source.policy == "cost_recovery") != (floor_micros is not None and ceiling_micros is not None):
        raise BadInput("Cost recovery, and nothing else, has a floor and a ceiling.", field="floor_micros")
    if floor_micros is not None and ceiling_micros is not None and not (
        0 <= require_whole(floor_micros, field="floor_micros") <= require_whole(ceiling_micros, field="ceiling_micros")
    ):  # fmt: skip
        raise PriceOutOfRange("A floor is no negative price, and at most its ceiling.", field="floor_micros")
    if source.policy == "forbidden":
        _require_unpromised(locked, times, units)
    tag = FundingTag.objects.create(
        id=uuid7(now), node_class=locked, source=source, units=units, from_at=times.from_at, until_at=times.until_at,
        floor_micros=floor_micros, ceiling_micros=ceiling_micros, seat=seat, made_at=now,
    )  # fmt: skip
    record(actor=seat.user.email, action="tag_funding", subject=locked.pk, reason=source.code, now=now, units=units)
    return tag


@transaction.atomic
def add_calendar_rule(
    *, seat: Seat, node_class: NodeClass, kind: str, times: Times, weekdays: int = 127, from_hour: int = 0,
    until_hour: int = 24, is_firm: bool = True, now: datetime,
) -> CalendarRule:  # fmt: skip
    """Open or close hours of the week, in UTC. A rule that would close an offered or awarded hour is refused."""
    locked = own_node_class(seat, node_class)
    times.require(now)
    if kind not in CalendarRule.KINDS:
        raise BadInput("A rule opens or closes hours.", field="kind")
    hours = (require_whole(from_hour, field="from_hour"), require_whole(until_hour, field="until_hour"))
    if not 0 <= hours[0] < hours[1] <= 24 or not 1 <= require_whole(weekdays, field="weekdays") <= 127:
        raise BadInput("Hours run from 0 to 24, and a rule names at least one day.", field="from_hour")
    rule = CalendarRule(
        id=uuid7(now), node_class=locked, kind=kind, weekdays=weekdays, from_hour=from_hour, until_hour=until_hour,
        from_at=times.from_at, until_at=times.until_at, is_firm=is_firm, seat=seat, made_at=now,
    )  # fmt: skip
    before = Sellable(locked)
    after = Sellable(locked, [*before.rules, rule])
    for promise in promised_hours(locked, now):
        if any(after.units(hour) < before.units(hour) or after.is_firm(hour) < before.is_firm(hour)
               for hour in promise):  # fmt: skip
            raise CapacityPromised("Bids or awards stand on hours that this would close.", field="from_hour")
    rule.save(force_insert=True)
    record(actor=seat.user.email, action="add_calendar_rule", subject=locked.pk, reason=kind, now=now,
           weekdays=weekdays, from_hour=from_hour, until_hour=until_hour)  # fmt: skip
    return rule


class Sellable:
    """What of one node class may be sold in an hour; read once, asked for many hours."""

    def __init__(self, node_class: NodeClass, rules: Sequence[CalendarRule] | None = None) -> None:
        self._all = node_class.units
        self.rules = list(live_rules(node_class)) if rules is None else list(rules)
        self._carved = list(node_class.carve_outs.all())
        self._tags = list(node_class.funding_tags.select_related("source"))

    @property
    def is_plain(self) -> bool:
        """Whether no rule says anything."""
        return not (self.rules or self._carved or self._tags)

    def units(self, hour_at: datetime) -> int:
        """Units that may be sold in the hour that begins then."""
        opening = [rule for rule in self.rules if rule.kind == "open"]
        if any(_covers(rule, hour_at) for rule in self.rules if rule.kind == "closed"):
            return 0
        covering = [rule for rule in opening if _covers(rule, hour_at)]
        if opening and not covering:
            return 0
        opened = max((self._all if rule.units is None else rule.units for rule in covering), default=self._all)
        kept = sum(each.units for each in self._carved if each.from_at <= hour_at < each.until_at)
        kept += sum(tag.units for tag in self._live(hour_at) if tag.source.policy == "forbidden")
        return max(0, min(self._all - kept, opened))

    def is_firm(self, hour_at: datetime) -> bool:
        """False where only interruptible rules open the hour."""
        covering = [rule for rule in self.rules if rule.kind == "open" and _covers(rule, hour_at)]
        return not covering or any(rule.is_firm for rule in covering)

    def price_bounds_micros(self, hour_at: datetime) -> tuple[int, int | None]:
        """The least and the most that may be asked; None: no most."""
        tags = [tag for tag in self._live(hour_at) if tag.source.policy == "cost_recovery"]
        ceilings = [tag.ceiling_micros for tag in tags if tag.ceiling_micros is not None]
        return max((tag.floor_micros or 0 for tag in tags), default=0), min(ceilings, default=None)

    def _live(self, hour_at: datetime) -> list[FundingTag]:
        return [tag for tag in self._tags if tag.from_at <= hour_at < tag.until_at]


def live_rules(node_class: NodeClass) -> QuerySet[CalendarRule]:
    """The rules of a class but for those of a week that was undone."""
    return CalendarRule.objects.filter(node_class=node_class, week__undone_at=None)


def require_sellable(
    node_class: NodeClass, *, quantity_units: int, ask_micros: int, from_at: datetime, hours: int, taken: int
) -> None:
    """Refuse a bid for units that are not for sale in one of its hours, or below or above what funding allows."""
    known = Sellable(node_class)
    if known.is_plain:
        return
    for hour in range(hours):
        hour_at = from_at + hour * HOUR
        free = known.units(hour_at)
        if taken + quantity_units > free:
            raise CapacityReserved(
                "Carve-outs, funding or the calendar leave less than that for sale.", field="quantity_units",
                hour=hour_at.isoformat(), sellable_units=free, already_offered=taken,
            )  # fmt: skip
        floor, ceiling = known.price_bounds_micros(hour_at)
        if ask_micros < floor or (ceiling is not None and ask_micros > ceiling):
            raise PriceOutOfRange(
                "Funding under cost recovery sets a floor and a ceiling for this ask.", field="price_ask_micros",
                floor_micros=floor, ceiling_micros=ceiling,
            )  # fmt: skip


# -- whose hardware ----------------------------------------------------------------------------------------------------
@transaction.atomic
def enrol_device(*, seat: Seat, node_class: NodeClass, device_key: bytes, label: str, now: datetime) -> Device:
    """Enrol one piece of hardware by its own key; hardware that is enrolled anywhere else is refused (DeviceTaken)."""
    locked = own_node_class(seat, node_class)
    require_name(label, field="label", longest=80)
    if len(device_key) < 32:
        raise BadInput("A device's key has at least 32 bytes.", field="device_key")
    digest = hashlib.sha256(device_key).digest()
    standing = Device.objects.filter(key_sha256=digest, retired_at=None).first()
    if standing:
        if standing.node_class_id != locked.pk:
            raise DeviceTaken("This hardware is enrolled in another node class.", field="device_key")
        return standing
    if locked.devices.filter(retired_at=None).count() >= locked.units:
        raise BadInput("Every unit of this class has its device.", field="device_key", most=locked.units)
    device = Device.objects.create(id=uuid7(now), node_class=locked, key_sha256=digest, label=label, enrolled_at=now)
    record(actor=seat.user.email, action="enrol_device", subject=locked.pk, reason=label, now=now, key=digest.hex())
    return device


@transaction.atomic
def retire_device(*, seat: Seat, device: Device, reason: str, now: datetime) -> Device:
    """Take a piece of hardware out of its node class; it may be enrolled again elsewhere."""
    own_node_class(seat, device.node_class)
    require_name(reason, field="reason", longest=300)
    if Device.objects.filter(pk=device.pk, retired_at=None).update(retired_at=now):
        record(actor=seat.user.email, action="retire_device", subject=device.node_class_id, reason=reason, now=now)
    device.retired_at = device.retired_at or now
    return device


# -- whose money -------------------------------------------------------------------------------------------------------
@transaction.atomic
def assign_sub_site(*, seat: Seat, site: Site, member: Party, now: datetime) -> SubSite:
    """Say which member of the consortium runs a site."""
    require_act(seat, "operate", "assign sites")
    if site.party_id != seat.party_id:
        raise NotYours("There is no such site.")
    if not member.is_provider:
        raise BadInput("A member of a consortium is a provider.", field="member")
    row, _ = SubSite.objects.update_or_create(site=site, defaults={"member": member})
    record(actor=seat.user.email, action="assign_sub_site", subject=site.code, reason=member.slug, now=now)
    return row


@transaction.atomic
def set_revenue_split(
    *, seat: Seat, shares_ppm: Mapping[Party, int], from_at: datetime, now: datetime
) -> RevenueSplit:  # fmt: skip
    """Share what a consortium is paid from an instant on; the parts make 1,000,000 parts per million exactly.

    The market pays each member its part (`payout.members`). Raises BadInput where escrow pays a wallet of the
    consortium's own: nobody here could pay on from there.
    """
    require_act(seat, "money", "set the revenue split")
    if from_at < now:
        raise PastDate("A split holds from now or later.", field="from_at", now=now.isoformat())
    if not shares_ppm or any(require_whole(part, field="shares_ppm") < 1 for part in shares_ppm.values()):
        raise SharesDoNotSum("Each member has at least one part per million.", field="shares_ppm")
    if sum(shares_ppm.values()) != 1_000_000:
        raise SharesDoNotSum("The shares make 1,000,000 parts per million.", field="shares_ppm",
                             total_ppm=sum(shares_ppm.values()))  # fmt: skip
    if any(not member.is_provider for member in shares_ppm):
        raise BadInput("A member of a consortium is a provider.", field="shares_ppm")
    if seat.party.chain_address not in (None, signer().address(f"provider:{seat.party_id}")):
        raise BadInput(
            "Your node classes are registered to a wallet of your own. Escrow pays there and nowhere else, so the "
            "market cannot share these payouts.", field="shares_ppm",
        )  # fmt: skip
    if seat.party.revenue_splits.filter(from_at__gte=from_at).exists():
        raise Overlapping("A split from that time or later stands already.", field="from_at")
    split = RevenueSplit.objects.create(id=uuid7(now), party=seat.party, from_at=from_at, seat=seat, made_at=now)
    SplitShare.objects.bulk_create(
        SplitShare(split=split, member=member, share_ppm=part)
        for member, part in sorted(shares_ppm.items(), key=lambda each: each[0].slug)
    )
    record(actor=seat.user.email, action="set_revenue_split", subject=seat.party.slug, reason="split", now=now,
           shares={member.slug: part for member, part in shares_ppm.items()})  # fmt: skip
    return split


def split_in_force(party_id: UUID, at: datetime) -> RevenueSplit | None:
    """The split that a party's earnings fall under at an instant, or None for a party that shares with nobody."""
    return RevenueSplit.objects.filter(party=party_id, from_at__lte=at).order_by("from_at").last()


def parts_of(split: RevenueSplit, amount_micros: int) -> dict[Party, int]:
    """Whose how much of an amount is, to the last micro-USD: largest remainder; of equal ones the first by name."""
    shares = list(split.shares.select_related("member").order_by("member__slug"))
    parts = Money(amount_micros, USDC6).split([share.share_ppm for share in shares])
    return {share.member: part.minor for share, part in zip(shares, parts, strict=True)}


# -- inside ------------------------------------------------------------------------------------------------------------
def own_node_class(seat: Seat, node_class: NodeClass) -> NodeClass:
    """The seat's own node class under its lock. Raises RoleForbidden, NotYours."""
    require_act(seat, "operate", "change what is for sale")
    locked = type(node_class).objects.select_for_update().filter(pk=node_class.pk, party=seat.party).first()
    if locked is None:
        raise NotYours("There is no such node class.")
    return locked


def _covers(rule: CalendarRule, hour_at: datetime) -> bool:
    at = hour_at.astimezone(UTC)
    return (
        rule.from_at <= at < rule.until_at
        and bool(rule.weekdays >> at.weekday() & 1)
        and rule.from_hour <= at.hour < rule.until_hour
    )


def promised_hours(node_class: NodeClass, now: datetime) -> list[list[datetime]]:
    """The hours of each bid that is sealed or opened, or was awarded and has not ended."""
    return [
        [bid.window.slot_at(slot) for slot in range(bid.start_slot, bid.end_slot)]
        for bid in node_class.promised() if bid.window.slot_at(bid.end_slot) > now
    ]  # fmt: skip


def _require_unpromised(node_class: NodeClass, times: Times, units: int) -> None:
    """Refuse to take units away that bids or awards stand on in that time."""
    known = Sellable(node_class)
    bids = [
        (bid, bid.window.slot_at(bid.start_slot), bid.window.slot_at(bid.end_slot))
        for bid in node_class.promised()
    ]
    for _, start, end in bids:
        hour = max(start, times.from_at)
        while hour < min(end, times.until_at):
            offered = sum(bid.quantity_units for bid, first, last in bids if first <= hour < last)
            if offered > known.units(hour) - units:
                raise CapacityPromised(
                    "Bids or awards stand on these units.", field="units", hour=hour.isoformat(), promised_units=offered
                )
            hour += HOUR
