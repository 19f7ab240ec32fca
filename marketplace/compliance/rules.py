"""The rules that a demand's data brings with it, and rules that leave no country at all.

Whether *capacity* is there is never asked here: demand comes first. What is told at entry is what the catalogue itself
makes impossible.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from datetime import date

from contracts.jurisdictions import INDEX_BY_COUNTRY
from marketplace.catalogue.limits import require_name
from marketplace.catalogue.models import Zone
from marketplace.catalogue.services import find_named, zone_countries
from marketplace.compliance.models import Control, DataClass, KindLimit
from marketplace.errors import BadInput, ContradictoryRules, DataRefused, TierNotForKind, UnknownName
from marketplace.parties.models import Party

CONTROLS_MAX = 12


def require_data_class(code: str | None, *, purpose: str | None) -> DataClass | None:
    """The data class of that code; None for none. Raises DataRefused for a class that is refused by default.

    Data that needs an agreement names its purpose, and other data does not.
    """
    data_class = find_named(DataClass, code, field="data_class")
    needs_purpose = data_class is not None and data_class.agreement_id is not None
    if needs_purpose != bool(purpose):
        raise BadInput("Data under an agreement, and no other, names what it is used for.", field="purpose")
    if purpose:
        require_name(purpose, field="purpose", longest=40)
    if data_class is not None and data_class.is_refused:
        raise DataRefused(f"{data_class.name} work is refused here.", field="data_class", data_class=data_class.pk)
    return data_class


def list_all_data_classes() -> list[DataClass]:
    """Every data class of the catalogue, also those that are refused, the lightest first."""
    return list(DataClass.objects.all())


def list_data_classes() -> list[DataClass]:
    """The data classes that may be named, the lightest first."""
    return list(DataClass.objects.filter(is_refused=False))


def require_controls(codes: Collection[str] | None) -> list[str]:
    """Codes of controls that the capacity must hold, sorted; each known, and none of them an agreement."""
    if codes is None:
        return []
    if isinstance(codes, str) or len(codes) > CONTROLS_MAX:
        raise BadInput(f"Name at most {CONTROLS_MAX} controls.", field="required_controls")
    known = set(Control.objects.exclude(kind="agreement").values_list("code", flat=True))
    unknown = sorted(set(codes) - known)
    if unknown:
        raise UnknownName(f"There is no control called {str(unknown[0])[:40]!r}.", field="required_controls",
                          known=sorted(known)[:30])  # fmt: skip
    return sorted(set(codes))


def require_some_country(
    *, zone: Zone | None, control_zone: Zone | None, data_class: DataClass | None, tier_min: int, on: date
) -> None:
    """Refuse rules that no country meets on that day, naming the one that removes most (`contradictory_rules`)."""
    rules: list[tuple[str, str, set[str]]] = [
        (field, f"zone {rule.pk}", set(zone_countries(zone=rule, on=on)))
        for field, rule in (("zone_code", zone), ("control_zone_code", control_zone)) if rule is not None
    ]  # fmt: skip
    if data_class is not None and data_class.zone is not None:
        allowed = set(zone_countries(zone=data_class.zone, on=on))
        rules.append(("data_class", f"data class {data_class.pk}, which stays in {data_class.zone_id}", allowed))
    offered = tier_countries(tier_min, on=on)
    if offered is not None:
        rules.append(("tier_min", f"tier T{tier_min}, which is offered in some zones only", offered))
    place = [rule for rule in rules if rule[0] != "control_zone_code"]  # control is about owners, not about the site
    for some in ([rule for rule in rules if rule[0] == "control_zone_code"], place):
        if some and not set.intersection(*(allowed for _, _, allowed in some)):
            raise _contradiction(some)


def require_tier_for_kind(*, party: Party, tier: int) -> None:
    """Refuse a tier that this kind of provider may not hold, whatever it shows (`tier_not_for_kind`)."""
    limit = KindLimit.objects.filter(kind=party.kind).first()
    if limit is not None and tier > limit.tier_max:
        raise TierNotForKind(
            f"A {party.kind} holds at most T{limit.tier_max}: {limit.reason}.", field="tier", kind=party.kind,
            tier_max=limit.tier_max,
        )  # fmt: skip


def bound_zone(zone: Zone | None, data_class: DataClass | None, *, on: date) -> Zone | None:
    """Where the machines must stand: what was asked, else where the data class may go.

    What was asked has to lie inside that, so that one list binds clearing, database and mandate alike.
    """
    if data_class is None or data_class.zone is None:
        return zone
    if zone is None:
        return data_class.zone
    beyond = sorted(set(zone_countries(zone=zone, on=on)) - set(zone_countries(zone=data_class.zone, on=on)))
    if beyond:
        raise ContradictoryRules(
            f"{data_class.name} may not leave {data_class.zone_id}; zone {zone.pk} reaches beyond it.",
            field="zone_code", beyond=beyond,
        )  # fmt: skip
    return zone


def tier_countries(level: int, *, on: date) -> set[str] | None:
    """Where a tier is offered on that day; None where no zone is named, which means anywhere."""
    zones = list(Zone.objects.filter(tier_offers__tier=level))
    return set().union(*(zone_countries(zone=each, on=on) for each in zones)) if zones else None


def _contradiction(rules: Iterable[tuple[str, str, set[str]]]) -> ContradictoryRules:
    removed = [(len(set(INDEX_BY_COUNTRY) - allowed), field, words) for field, words, allowed in rules]
    most, field, words = max(removed, key=lambda each: each[0])  # of two that remove as many the first
    return ContradictoryRules(
        f"No country meets these rules together; {words} removes most: {most} of {len(INDEX_BY_COUNTRY)}.",
        field=field, removed={each: count for count, each, _ in removed},
    )  # fmt: skip
