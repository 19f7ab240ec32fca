"""Sites and node classes change by their provider: each change with before and after, and what it voids at once.

| what changes | while bids or leases stand | what no longer counts |
|---|---|---|
| a class's declared name | allowed | nothing: it is never read |
| where a site is operated from, its keys are kept | allowed: the truth is never refused | evidence of legal control |
| a site's city, a class's tier, fewer units | refused | nothing: a higher tier shows itself by evidence |
| a site's country or coordinates | refused | all its evidence and round trips, the proofs of its classes |
| a class's declared kind, more units | refused | its proof: other machines prove themselves together |
| retired, site or class | refused | the proof of the class; it comes back by a new one |

A product's month follows country, kind and tier, so requests for admission are given back before these change. What a
lease ran on stays as it was: `as_of` tells a site at an earlier time. The database keeps the same rules.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from django.db import transaction
from django.db.models import Q, QuerySet

from ledger.faults import point
from ledger.ids import uuid7
from marketplace.catalogue.limits import require_name, require_quantity
from marketplace.catalogue.models import ResourceClass
from marketplace.catalogue.services import find_named
from marketplace.compliance.models import EvidenceReview
from marketplace.compliance.rules import require_tier_for_kind
from marketplace.errors import BadInput, CapacityPromised, NotYours, WrongStanding
from marketplace.governance.services import record
from marketplace.parties.countries import require_country
from marketplace.parties.models import Party, Seat
from marketplace.parties.roles import require_seat
from marketplace.supply.admission_models import Admission
from marketplace.supply.admissions import leave_waitlist
from marketplace.supply.change_models import SupplyChange, next_no
from marketplace.supply.models import Benchmark, Bid, NodeClass, Site, SiteLatency
from marketplace.supply.onchain import renew_attestation
from marketplace.supply.proof_models import RollMember
from marketplace.supply.services import require_coordinate
from marketplace.supply.standing import void_proof

PLACE, CONTROL = ("country", "lat", "lon"), ("operator_country", "keys_country")
SITE_FIELDS = ("city", *PLACE, *CONTROL)
CLASS_FIELDS = ("claimed_name", "units", "tier", "resource_class")
ALWAYS = ("claimed_name", *CONTROL)  # allowed while bids and leases stand
OF_THE_PRODUCT = ("country", "tier", "resource_class")  # a request for admission is about these
ON_CHAIN = ("country", "tier", "retired_at", *CONTROL)
UNDO_DAYS = 7
ATTEST_DAYS = 30
WORDS = {
    "evidence": "all evidence of the site, until it is handed in and accepted anew",
    "legal_control": "the evidence of its legal control, until it is handed in and accepted anew",
    "round_trips": "its round trips, until they are measured again",
    "proof": "the proof of its machines, until they prove themselves again",
}

Thing = Site | NodeClass


@dataclass(frozen=True, slots=True)
class Foreseen:
    """What an edit would do: the columns before and after, and what would no longer count."""

    before: dict[str, Any]
    after: dict[str, Any]
    voids: list[str]

    @property
    def sentences(self) -> list[str]:
        """What would no longer count, in words."""
        return [WORDS[name] for name in self.voids]


# -- edits -------------------------------------------------------------------------------------------------------------
@transaction.atomic
def edit_site(
    *, party: Party, site: Site, reason: str, seat: Seat | None = None, now: datetime, **wanted: Any
) -> SupplyChange | None:
    """Change what a site says of itself; None where nothing differs. `wanted` holds some of `SITE_FIELDS`.

    Raises NotYours, BadInput for a value, CapacityPromised while bids, leases or requests stand on what would change,
    WrongStanding for a site that is retired.
    """
    require_seat(seat, party, "operate", "change sites")
    locked = _own(Site, party, site)
    foreseen = foresee(locked, wanted)
    return _change(locked, foreseen, party=party, seat=seat, reason=reason, now=now) if foreseen.after else None


@transaction.atomic
def edit_node_class(
    *, party: Party, node_class: NodeClass, reason: str, seat: Seat | None = None, now: datetime, **wanted: Any
) -> SupplyChange | None:
    """Change what a node class is; None where nothing differs. `wanted` holds some of `CLASS_FIELDS`.

    Raises as `edit_site`, and TierNotForKind.
    """
    require_seat(seat, party, "operate", "change node classes")
    locked = _own(NodeClass, party, node_class)
    foreseen = foresee(locked, wanted)
    return _change(locked, foreseen, party=party, seat=seat, reason=reason, now=now) if foreseen.after else None


def foresee(thing: Thing, wanted: Mapping[str, Any]) -> Foreseen:
    """What an edit would change and void; writes nothing. Raises BadInput for a value that cannot be."""
    known = SITE_FIELDS if isinstance(thing, Site) else CLASS_FIELDS
    if unknown := sorted(set(wanted) - set(known)):
        raise BadInput("This cannot be changed.", field=unknown[0], known=list(known))
    checked = _checked_site(wanted) if isinstance(thing, Site) else _checked_class(thing, wanted)
    before = {name: _value(thing, name) for name in known}
    after = {name: value for name, value in checked.items() if value != before[name]}
    return Foreseen({name: before[name] for name in after}, after, _voids(before, after))


@transaction.atomic
def retire(*, party: Party, thing: Thing, reason: str, seat: Seat | None = None, now: datetime) -> SupplyChange:
    """Take a node class, or a site whose classes are all retired, out of service; again is the same.

    What it waits for or was let in with is given back. Raises CapacityPromised while bids or leases stand on it, and
    for a site while a class of it is in service.
    """
    require_seat(seat, party, "operate", "retire machines")
    locked = _own(type(thing), party, thing)
    if locked.retired_at is not None:
        return locked.changes.filter(after__has_key="retired_at").order_by("-no").first()
    if isinstance(locked, Site) and locked.node_classes.filter(retired_at=None).exists():
        raise CapacityPromised("Retire its node classes first.", field="site")
    foreseen = Foreseen({"retired_at": None}, {"retired_at": now.isoformat()},
                        ["proof"] if isinstance(locked, NodeClass) else [])  # fmt: skip
    return _change(locked, foreseen, party=party, seat=seat, reason=reason, now=now)


@transaction.atomic
def bring_back(*, party: Party, thing: Thing, reason: str, seat: Seat | None = None, now: datetime) -> SupplyChange:
    """Put a retired site or node class into service again; a class then proves itself anew. Again is the same.

    Raises WrongStanding for what is not retired and never was, and for a class whose site is retired.
    """
    require_seat(seat, party, "operate", "bring machines back")
    locked = _own(type(thing), party, thing)
    last = locked.changes.filter(after__has_key="retired_at").order_by("-no").first()
    if locked.retired_at is None:
        if last is None:
            raise WrongStanding("It is in service.")
        return last
    if isinstance(locked, NodeClass) and locked.site.retired_at is not None:
        raise WrongStanding("Bring its site back first.", site=locked.site.code)
    foreseen = Foreseen({"retired_at": locked.retired_at.isoformat()}, {"retired_at": None}, [])
    return _change(locked, foreseen, party=party, seat=seat, reason=reason, now=now)


@transaction.atomic
def undo_change(
    *, party: Party, change: SupplyChange, reason: str, seat: Seat | None = None, now: datetime
) -> SupplyChange:
    """Take an edit back within a week: columns are as before, and evidence and round trips count again. Twice is once.

    A proof that was voided stays void: nobody saw what stood there meanwhile. Raises WrongStanding for a retirement
    (bring it back instead), for a change that others followed, after a week, once evidence or a proof was taken in
    under the new values, and for fewer units once a roll called so many.
    """
    require_seat(seat, party, "operate", "take changes back")
    row = SupplyChange.objects.filter(pk=change.pk).filter(
        Q(site__party=party) | Q(node_class__party=party)).first()  # fmt: skip
    if row is None:
        raise NotYours("There is no such change.")
    thing = _own(Site, party, row.site) if row.site_id else _own(NodeClass, party, row.node_class)
    standing = SupplyChange.objects.filter(undoes=row).first()
    if standing is not None:
        return standing
    _require_undoable(thing, row, now)
    foreseen = Foreseen(row.after, row.before, [])
    return _change(thing, foreseen, party=party, seat=seat, reason=reason, now=now, undoes=row)


def is_undoable(thing: Thing, row: SupplyChange, now: datetime) -> bool:
    """Whether a page should offer to take a change back."""
    try:
        _require_undoable(thing, row, now)
    except WrongStanding:
        return False
    return True


# -- reads -------------------------------------------------------------------------------------------------------------
def changes_of(party: Party) -> QuerySet[SupplyChange]:
    """Every change of a provider's sites and node classes, the newest first."""
    rows = SupplyChange.objects.filter(Q(site__party=party) | Q(node_class__party=party))
    return rows.select_related("site", "node_class__resource_class", "node_class__site", "undone_by")


def as_of(site: Site, at: datetime) -> dict[str, Any]:
    """The columns of a site as they were at an earlier time."""
    found = {name: getattr(site, name) for name in SITE_FIELDS}
    for row in site.changes.filter(at__gt=at).order_by("-no"):
        found |= {name: value for name, value in row.before.items() if name in found}
    return found


def standing_on(classes: Iterable[NodeClass]) -> QuerySet[Bid]:
    """The bids that stand on these machines: sealed, opened, awarded or agreed as a backup, in a window not over."""
    live = Bid.objects.filter(node_class__in=list(classes)).exclude(window__state__in=("SETTLED", "FAILED"))
    return live.filter(Q(state__in=("sealed", "opened", "awarded")) | Q(backs_up__isnull=False)).distinct()


# -- steps -------------------------------------------------------------------------------------------------------------
def renew_attestations(*, now: datetime) -> int:
    """Bring the contract what changed of the classes that it knows; a step of every turn. Returns how many."""
    recent = SupplyChange.objects.filter(at__gt=now - timedelta(days=ATTEST_DAYS), after__has_any_keys=ON_CHAIN)
    brought = 0
    for row in recent.select_related("site", "node_class").order_by("at", "id"):
        for node_class in _classes_of(row.site or row.node_class):
            brought += renew_attestation(node_class=node_class, about=row.pk.hex, now=now) is not None
    return brought


# -- inside ------------------------------------------------------------------------------------------------------------
def _change(
    thing: Any, foreseen: Foreseen, *, party: Party, seat: Seat | None, reason: str, now: datetime,
    undoes: SupplyChange | None = None,
) -> SupplyChange:  # fmt: skip
    require_name(reason, field="reason", longest=300)
    is_site, fields = isinstance(thing, Site), set(foreseen.after)
    if thing.retired_at is not None and "retired_at" not in fields:
        raise WrongStanding("It is retired: bring it back first.")
    classes = _classes_of(thing)
    _require_free(classes, fields, now)
    if not is_site:
        _require_devices(thing, foreseen)
    actor = seat.user.email if seat else party.slug
    kept = _void(thing, classes, foreseen, actor, reason, now)
    row = SupplyChange.objects.create(
        id=uuid7(now), site=thing if is_site else None, node_class=None if is_site else thing, no=next_no(thing),
        before=foreseen.before, after=foreseen.after, voids=foreseen.voids, kept=kept,
        cause="undo" if undoes else "provider", undoes=undoes, actor=actor, seat=seat, reason=reason, at=now,
    )  # fmt: skip
    point("supply.change.between")
    _write(thing, foreseen, undoes, now)
    record(
        actor=actor, action="undo_change" if undoes else "change_supply", subject=thing.pk, reason=reason, now=now,
        before=foreseen.before, after=foreseen.after, voids=foreseen.voids,
    )  # fmt: skip
    return row


def _void(
    thing: Any, classes: list[NodeClass], foreseen: Foreseen, actor: str, reason: str, now: datetime
) -> dict[str, Any]:
    """Let what the change voids no longer count, and give back what was let in; returns what an undo needs."""
    kept: dict[str, Any] = {}
    digest = hashlib.sha256(json.dumps([foreseen.before, foreseen.after], sort_keys=True).encode()).digest()
    if "proof" in foreseen.voids:
        for each in classes:
            void_proof(node_class=each, actor=actor, reason=f"changed: {reason}"[:300], evidence=digest, now=now)
    if foreseen.after.get("retired_at"):
        for admission in _requests(classes, now):
            leave_waitlist(admission=admission, party=thing.party, now=now)
    if "round_trips" in foreseen.voids:
        rows = list(thing.latencies.order_by("vantage_id"))
        kept["round_trips"] = [[row.vantage_id, row.rtt_ms_p95, row.method] for row in rows]
        SiteLatency.objects.filter(pk__in=[row.pk for row in rows]).delete()
    if isinstance(thing, Site):
        kept |= {name: at.isoformat() if at else None
                 for name, at in (("moved_at", thing.moved_at), ("control_changed_at", thing.control_changed_at))}
    return kept


def _write(thing: Any, foreseen: Foreseen, undoes: SupplyChange | None, now: datetime) -> None:
    for name, value in foreseen.after.items():
        if name == "resource_class":
            thing.resource_class_id = value
        elif name == "retired_at":
            thing.retired_at = datetime.fromisoformat(value) if value else None
        else:
            setattr(thing, name, value)
    for void, mark in (("evidence", "moved_at"), ("legal_control", "control_changed_at")):
        if void in foreseen.voids:
            setattr(thing, mark, now)
        elif undoes is not None and void in undoes.voids:
            earlier = undoes.kept[mark]
            setattr(thing, mark, datetime.fromisoformat(earlier) if earlier else None)
    thing.save()
    if undoes is not None and "round_trips" in undoes.voids:
        thing.latencies.all().delete()  # what was measured at the other place
    for vantage, rtt, method in (undoes.kept.get("round_trips", []) if undoes else []):
        SiteLatency.objects.create(site=thing, vantage_id=vantage, rtt_ms_p95=rtt, method=method)


def _voids(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    found = []
    if set(after) & set(PLACE):
        found += ["evidence", "round_trips", "proof"]
    if set(after) & set(CONTROL):
        found.append("legal_control")
    if "resource_class" in after or after.get("units", 0) > before.get("units", 0):
        found.append("proof")
    return found


def _require_free(classes: list[NodeClass], fields: set[str], now: datetime) -> None:
    """Refuse what bids, leases or requests for admission stand on."""
    if fields <= set(ALWAYS):
        return
    field = sorted(fields - set(ALWAYS))[0]
    if bids := standing_on(classes).count():
        raise CapacityPromised("Bids or leases stand on these machines; it can change once their windows are over.",
                               field=field, bids=bids)  # fmt: skip
    if fields & set(OF_THE_PRODUCT) and (requests := _requests(classes, now)):
        raise CapacityPromised("It waits or was let in as another product: give that back on the waitlist first.",
                               field=field, requests=len(requests))  # fmt: skip


def _require_devices(node_class: NodeClass, foreseen: Foreseen) -> None:
    units = foreseen.after.get("units")
    enrolled = node_class.devices.filter(retired_at=None).count()
    if units is not None and units < enrolled:
        raise BadInput("More devices than that are enrolled in this class: retire some first.", field="units",
                       devices=enrolled)  # fmt: skip
    code = foreseen.after.get("resource_class")
    if code and NodeClass.objects.filter(site=node_class.site_id, resource_class=code).exists():
        raise BadInput("This site has a node class of that kind: the machines belong to it.", field="resource_class")


def _require_undoable(thing: Thing, row: SupplyChange, now: datetime) -> None:
    if row.cause == "measured" or "retired_at" in row.after:
        raise WrongStanding("This is not taken back: bring a retired one back, and prove what was measured anew.")
    if thing.changes.filter(no__gt=row.no).exists():
        raise WrongStanding("Another change followed it: take that back first.")
    if row.cause == "undo" or now >= row.at + timedelta(days=UNDO_DAYS):
        raise WrongStanding(f"A change is taken back within {UNDO_DAYS} days, once.")
    of_site = Q(evidence__site=row.site_id) if row.site_id else Q(pk__in=[])
    if EvidenceReview.objects.filter(of_site, evidence__submitted_at__gte=row.at, is_accepted=True).exists():
        raise WrongStanding("Evidence was accepted under the new values.")
    if Benchmark.objects.filter(node_class__in=_classes_of(thing), finished_at__gt=row.at).exists():
        raise WrongStanding("Its machines proved themselves under the new values.")
    called = RollMember.objects.filter(node_class__in=_classes_of(thing), roll__opened_at__gte=row.at)
    if row.before.get("units", 0) > row.after.get("units", 0) and called.exists():
        raise WrongStanding("Its machines were called in a roll as fewer: more units prove themselves anew.")


def _requests(classes: list[NodeClass], now: datetime) -> list[Admission]:
    this_month = now.astimezone(UTC).date().replace(day=1)
    rows = Admission.objects.filter(node_class__in=classes, month__gte=this_month, state__in=("WAITLIST", "ADMITTED"))
    return list(rows.order_by("asked_at", "id"))


def _classes_of(thing: Any) -> list[NodeClass]:
    rows = NodeClass.objects.filter(site=thing) if isinstance(thing, Site) else NodeClass.objects.filter(pk=thing.pk)
    return list(rows.select_related("site__party", "party__parent", "standing").order_by("chain_class"))


def _own(kind: type[Any], party: Party, thing: Any) -> Any:
    """The row under its lock; a bid that is being written on it is waited for, and seen."""
    locked = kind.objects.select_for_update().filter(pk=thing.pk, party=party).first()
    if locked is None:
        raise NotYours(f"There is no such {'site' if kind is Site else 'node class'}.")
    if kind is Site:
        list(NodeClass.objects.select_for_update().filter(site=locked).order_by("pk"))
    return locked


def _value(thing: Any, name: str) -> Any:
    return thing.resource_class_id if name == "resource_class" else getattr(thing, name)


def _checked_site(wanted: Mapping[str, Any]) -> dict[str, Any]:
    for name, value in wanted.items():
        if name == "city":
            require_name(value, field="city", longest=80)
        elif name in ("lat", "lon"):
            require_coordinate(value, field=name)
        else:
            require_country(value, name)
    return dict(wanted)


def _checked_class(node_class: NodeClass, wanted: Mapping[str, Any]) -> dict[str, Any]:
    found = dict(wanted)
    if "claimed_name" in found:
        require_name(found["claimed_name"], field="claimed_name", longest=80)
    if "units" in found:
        require_quantity(found["units"])
    if "tier" in found:
        tier = found["tier"]
        if isinstance(tier, bool) or not isinstance(tier, int) or not 0 <= tier <= 3:
            raise BadInput("A tier is a whole number from 0 to 3.", field="tier")
        require_tier_for_kind(party=node_class.party, tier=tier)
    if "resource_class" in found:
        kind = find_named(ResourceClass, found["resource_class"], field="resource_class")
        if kind is None:
            raise BadInput("Choose a resource class.", field="resource_class")
        found["resource_class"] = kind.code
    return found
