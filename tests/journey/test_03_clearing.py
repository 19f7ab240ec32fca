"""One price for all: awards that keep every rule, a reason for every loser, a certificate that anybody can check."""

from __future__ import annotations

import json

import pytest

from ledger.rails.evm import chain
from ledger.selectors import hold
from marketplace import models as m
from marketplace.clearing.models import PARTS
from marketplace.clearing.services import clear_window, close_bidding, verify_published
from marketplace.demand.models import Demand
from pricing.verify import verify_bundle
from tests.journey import world
from tests.journey.refusals import untouched
from tests.sealed import reseal

AWARDED = {
    ("genome", "granite", 4, 30), ("imaging", "basalt", 2, 24), ("climate", "harbour", 6, 30),
    ("tardy", "harbour", 4, 30), ("sovereign", "harbour", 2, 10), ("render", "prairie", 4, 30),
}  # fmt: skip


def awards() -> list[m.Award]:
    return list(world.window().clearing.awards.select_related("demand", "bid__party"))


@pytest.mark.stage("cleared")
def test_each_demand_is_served_where_its_rules_allow() -> None:
    made = {(a.demand.reference, a.bid.party.slug, a.units, a.end_slot - a.start_slot) for a in awards()}

    assert made == AWARDED


@pytest.mark.stage("cleared")
def test_the_cheapest_provider_is_never_matched_outside_its_residency() -> None:
    prairie = world.bid("prairie")
    others = m.Bid.objects.filter(window=world.window()).exclude(pk=prairie.pk)

    assert all(prairie.price_ask_micros * 3 < other.price_ask_micros for other in others)
    assert {a.demand.reference for a in awards() if a.bid_id == prairie.pk} == {"render"}
    assert m.LineReason.objects.get(bid=prairie).unfilled_unit_hours == 12 * 30


@pytest.mark.stage("cleared")
def test_everybody_pays_the_same_price_between_ask_and_limit() -> None:
    prices: dict[tuple[str, int], set[int]] = {}
    for award in awards():
        assert award.amount_micros == award.units * sum(award.slot_prices_micros)
        for slot, price in enumerate(award.slot_prices_micros, start=award.start_slot):
            assert award.bid.price_ask_micros <= price <= award.demand.price_limit_micros
            assert price % 100 == 0
            prices.setdefault((award.bid.party.slug, slot), set()).add(price)

    assert {len(quoted) for quoted in prices.values()} == {1}


@pytest.mark.stage("cleared")
def test_what_a_price_is_made_of_adds_up_to_it_in_every_cell_and_every_award() -> None:
    for row in world.window().clearing.price_rows.all():
        cells = zip(row.slot_prices_micros, *(row.slot_parts_micros[name] for name in PARTS), strict=True)
        for price, *parts in cells:
            assert (price is None) == all(part is None for part in parts)
            assert price is None or (price == sum(parts) and min(parts) >= 0)

    for award in awards():
        assert sum(award.parts_micros.values()) == award.amount_micros


@pytest.mark.stage("bidding")
def test_a_backup_belongs_to_another_owner_stands_elsewhere_and_has_capacity_left() -> None:
    window = world.window()
    reseal(world.bid("granite"), quantity_units=8)  # more than it sells
    close_bidding(window=window, now=window.bidding_closes_at)
    clearing = clear_window(window=window, now=window.bidding_closes_at)

    backups = list(m.Backup.objects.filter(award__clearing=clearing).select_related("award__bid", "bid"))

    assert {backup.bid.party.slug for backup in backups} == {"granite"}
    for backup in backups:
        award, bid = backup.award, backup.bid
        assert bid.party.owner_key != award.bid.party.owner_key
        assert bid.node_class.site_id != award.bid.node_class.site_id
        assert backup.strike_price_micros >= bid.price_ask_micros
        sold = bid.awards.filter(start_slot__lt=award.end_slot, end_slot__gt=award.start_slot)
        assert sum(other.units for other in sold) + award.units <= bid.quantity_units
    assert "genome" not in {backup.award.demand.reference for backup in backups}  # nobody else has its tier


@pytest.mark.stage("cleared")
def test_the_house_s_rules_are_in_the_bundle_and_how_concentrated_supply_was_is_kept() -> None:
    clearing = world.window().clearing
    manifest = json.loads(bytes(clearing.files.get(name="manifest.json").body))
    rows = {tuple(row["product"]): row for row in clearing.concentration}

    assert manifest["rules"] == {"concentration_ppm": 300_000, "foundation_budget_micros": None}
    assert manifest["home_zones"] == {"DE": "EU", "FR": "EU"}  # a country that is its own zone is not named
    assert clearing.caps == []
    assert {tuple(product) for product in clearing.caps_not_applicable} >= set(rows)
    harbour = rows["H100", "EU", 1]
    assert (harbour["parents"], harbour["top_share_ppm"] < 10**6, harbour["is_cap_applicable"]) == (2, True, False)
    assert rows["H100", "EU", 2]["hhi"] == 10_000


@pytest.mark.stage("cleared")
def test_a_losing_demand_and_a_losing_bid_are_told_why() -> None:
    bargain, fjord = world.demand("bargain"), world.bid("fjord")
    demand_reason, bid_reason = m.LineReason.objects.get(demand=bargain), m.LineReason.objects.get(bid=fjord)

    assert (bargain.state, demand_reason.code) == ("lost", "priced_out")
    assert demand_reason.detail["short_by_micros"] > 0
    assert demand_reason.unfilled_unit_hours == bargain.unit_hours
    assert (fjord.state, bid_reason.code) == ("lost", "priced_out")
    assert m.LineReason.objects.get(demand=world.demand("hope")).code == "not_funded"


@pytest.mark.stage("cleared")
def test_every_line_that_is_not_filled_has_exactly_one_reason() -> None:
    filled: dict[object, int] = {}
    for award in awards():
        for line in (award.demand_id, award.bid_id):
            filled[line] = filled.get(line, 0) + award.units * (award.end_slot - award.start_slot)
    lines = [*world.window().demands.all(), *world.window().bids.all()]
    short = {row.pk for row in lines if filled.get(row.pk, 0) < row.quantity_units * (row.end_slot - row.start_slot)}

    reasons = [row.demand_id or row.bid_id for row in world.window().clearing.reasons.all()]

    assert sorted(map(str, reasons)) == sorted(map(str, short))


@pytest.mark.stage("cleared")
def test_who_lost_gets_its_hold_back_and_who_won_keeps_it() -> None:
    states = {row.reference: hold(row.hold_id).state for row in Demand.objects.exclude(hold_id=None).filter(
        window=world.window())}  # fmt: skip

    assert states.pop("bargain") == "void"
    assert set(states.values()) == {"open"}


@pytest.mark.stage("cleared")
def test_the_certificate_shows_a_gap_of_zero_and_lies_on_the_chain() -> None:
    clearing = world.window().clearing
    files = {row.name: bytes(row.body) for row in clearing.files.all()}

    report = verify_bundle(files)

    assert report.ok
    assert (report.gap_micros, report.noncompliant_awards, report.losers_without_reason) == (0, 0, 0)
    assert report.welfare_micros == clearing.welfare_micros == clearing.bound_micros > 0
    assert bytes(chain().call("anchor", "bundle_of", world.window().number)) == bytes(clearing.bundle_hash)


@pytest.mark.stage("cleared")
@pytest.mark.parametrize("name", ["demands.jsonl", "bids.jsonl", "awards.jsonl", "prices.jsonl"])
def test_a_bundle_with_one_changed_figure_is_not_confirmed(name: str) -> None:
    clearing = world.window().clearing
    assert verify_published(clearing=clearing) == []
    files = {row.name: bytes(row.body) for row in clearing.files.all()}

    line = files[name].splitlines()[0]
    digit = next(at for at in range(len(line) - 1, 0, -1) if line[at : at + 1].isdigit())
    changed = line[:digit] + bytes([ord("0") + (line[digit] - ord("0") + 1) % 10]) + line[digit + 1 :]

    assert not verify_bundle(files | {name: files[name].replace(line, changed, 1)}).ok


@pytest.mark.stage("cleared")
def test_clearing_again_gives_the_result_that_stands() -> None:
    window = world.window()

    with untouched():
        assert clear_window(window=window, now=window.starts_at) == window.clearing


@pytest.mark.stage("cleared")
def test_the_public_bundle_names_nobody() -> None:
    bundle = b"".join(bytes(row.body) for row in world.window().clearing.files.all()).decode()

    for secret in [*world.BUYERS, *(each.code for each in world.MACHINES), *(o.reference for o in world.ORDERS)]:
        assert secret not in bundle
