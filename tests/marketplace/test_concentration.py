"""No parent sells more than its share through the service, however many children it bids with; and what is told."""

from __future__ import annotations

from collections import Counter, defaultdict
from random import Random

import pytest
from django.test import Client

from ledger.ids import uuid7
from marketplace import clock
from marketplace import models as m
from marketplace.clearing.selectors import product_use
from marketplace.clearing.services import clear_window, close_bidding, verify_published
from marketplace.clearing.shares import churn_between, churn_of
from marketplace.supply.admissions import delivery_month
from marketplace.supply.bids import place_bid
from marketplace.templatetags.grove import percent_ppm
from tests.journey import world
from tests.owner import behind_the_triggers

ONE_PPM = 1_000_000


def seller(slug: str, *, parent: m.Party | None, number: int) -> m.NodeClass:
    """A proven provider in Germany; a child of `parent`, maybe a grandchild."""
    party = m.Party.objects.create(
        id=uuid7(clock.now()), slug=slug, name=slug, kind="enterprise", country="DE", parent=parent,
        parent_country="DE", registered_at=clock.now(),
    )  # fmt: skip
    site = m.Site.objects.create(id=uuid7(clock.now()), party=party, code=slug, city=slug, country="DE",
                                 operator_country="DE", keys_country="DE", lat=50, lon=8)  # fmt: skip
    m.SiteLatency.objects.create(site=site, vantage_id="ams", rtt_ms_p95=4, method="measured")
    row = m.NodeClass.objects.create(
        id=uuid7(clock.now()), party=party, site=site, resource_class_id="H100", claimed_name="H100", units=16, tier=0,
        chain_class=100 + number, enrolled_at=clock.now(),
    )  # fmt: skip
    with behind_the_triggers():  # proof and admission have tests of their own
        m.Standing.objects.create(node_class=row, state="PROVEN", proven_at=clock.now(), changed_at=clock.now(),
                                  proven_until=world.day(300), good_hours=1000)  # fmt: skip
        let_in(row)
    return row


def let_in(row: m.NodeClass) -> None:
    m.Admission.objects.create(
        id=uuid7(clock.now()), node_class=row, month=delivery_month(world.window()), zone="EU", unit_hours=2**40,
        state="ADMITTED", asked_at=clock.now(), decided_at=clock.now(),
    )  # fmt: skip


def families(rng: Random) -> list[m.NodeClass]:
    """Some owners, each with up to four companies below it, in up to three generations."""
    made: list[m.NodeClass] = []
    for family in range(rng.randint(6, 8)):
        line: list[m.Party] = []
        for child in range(rng.randint(1, 4)):
            parent = rng.choice(line) if line else None
            row = seller(f"family-{family}-{child}", parent=parent, number=len(made))
            line.append(row.party)
            made.append(row)
    return made


@pytest.mark.stage("bidding")
@pytest.mark.parametrize("seed", [*range(3), *(pytest.param(n, marks=pytest.mark.slow) for n in range(3, 8))])
def test_no_parent_sells_more_than_its_share_with_all_its_children(seed: int) -> None:
    rng = Random(seed)
    window = world.window()
    cap_ppm = rng.choice([300_000, 350_000, 400_000])
    m.Window.objects.filter(pk=window.pk).update(concentration_ppm=cap_ppm)
    for number, row in enumerate(families(rng)):
        place_bid(
            party=row.party, node_class=row, window=window, reference=f"b{number}", quantity_units=rng.randint(1, 16),
            start_slot=rng.randint(0, 3), end_slot=world.SLOTS - rng.randint(0, 3), sla_code="99.0",
            price_ask_micros=100 * rng.randint(2_000, 12_000), now=clock.now(),
        )  # fmt: skip
    close_bidding(window=window, now=window.bidding_closes_at)

    clearing = clear_window(window=world.window(), now=window.bidding_closes_at)

    assert verify_published(clearing=clearing) == []
    sold: dict[tuple, Counter[str]] = defaultdict(Counter)
    for award in clearing.awards.select_related("bid__party__parent", "bid__node_class__site"):
        node_class, country = award.bid.node_class, award.bid.node_class.site.country
        product = node_class.resource_class_id, "EU" if country in world.ZONES["EU"] else country, node_class.tier
        sold[product][award.bid.party.owner_key] += award.units * (award.end_slot - award.start_slot)
    told = {tuple(row["product"]): row for row in clearing.concentration}
    assert set(told) == set(sold)
    held = 0
    for product, by_owner in sold.items():
        total, row = sum(by_owner.values()), told[product]
        largest = sorted(by_owner.values(), reverse=True)
        assert row["hhi"] == sum(hours * hours for hours in largest) * 10_000 // total**2
        assert row["top_shares_ppm"] == [sum(largest[: k + 1]) * ONE_PPM // total for k in range(3)]
        assert row["parents"] == len(by_owner)
        if row["is_cap_applicable"]:
            held += 1
            assert max(by_owner.values()) * ONE_PPM <= cap_ppm * total, (product, by_owner)
    assert held >= 1


@pytest.mark.stage("bidding")
def test_a_cap_that_binds_is_told_to_the_foundation_and_the_trail_and_on_both_pages() -> None:
    """One family of five companies offers everything cheap; without counting them together none would reach the cap."""
    foundation = m.Party.objects.get(kind="foundation")
    window, top = world.window(), None
    for number in range(10):
        row = seller(f"s{number}", parent=top, number=number)
        top = top or row.party if number < 4 else None
        place_bid(party=row.party, node_class=row, window=window, reference="b", quantity_units=4, start_slot=0,
                  end_slot=world.SLOTS, price_ask_micros=500_000 if number < 5 else 900_000, sla_code="99.0",
                  now=clock.now())  # fmt: skip
    close_bidding(window=window, now=window.bidding_closes_at)

    clearing = clear_window(window=world.window(), now=window.bidding_closes_at)

    bound = [row for row in clearing.concentration if row["capped_parents"]]
    assert bound, clearing.concentration
    assert bound[0]["top_share_ppm"] <= window.concentration_ppm
    notice = m.Notice.objects.get(party=foundation, code="cap_bound")
    assert "the cap on one parent bound" in notice.sentence
    line = m.AuditLine.objects.get(action="cap_bound")
    assert line.facts["hhi"] == bound[0]["hhi"]
    page = Client().get("/market/").content.decode()
    assert "cap bound" in page
    assert ", ".join(percent_ppm(share) for share in bound[0]["top_shares_ppm"]) in page


@pytest.mark.parametrize(("before", "after", "said"), [
    ({"a": 10, "b": 10}, {"a": 5, "b": 5}, (0, 0, 2, 0)),  # half the trade, the same shares
    ({"a": 10}, {"b": 3}, (1, 1, 0, ONE_PPM)),
    ({"a": 50, "b": 50}, {"a": 75, "c": 25}, (1, 1, 1, 500_000)),
    ({"a": 1, "b": 2}, {"a": 1, "b": 2, "c": 1}, (1, 0, 2, 250_000)),
])  # fmt: skip
def test_churn_says_who_came_who_left_and_how_much_of_the_trade_moved(
    before: dict[str, int], after: dict[str, int], said: tuple[int, int, int, int]
) -> None:
    assert churn_between(before, after) == said
    entered, left, stayed, moved = said
    assert churn_between(after, before) == (left, entered, stayed, moved)


@pytest.mark.stage("cleared")
def test_the_second_window_shows_its_churn_since_the_first() -> None:
    first, second = m.Clearing.objects.order_by("window__number")
    assert churn_of(first) == {}
    traded = {tuple(row["product"]): row["sellers"] for row in first.sellers}

    churn = churn_of(second)

    assert churn
    for product, moved in churn.items():
        now = next(row["sellers"] for row in second.sellers if tuple(row["product"]) == product)
        assert (moved.since, moved.moved_ppm) == (world.EARLY, churn_between(traded[product], now)[3])
        assert not moved.is_wide  # two sellers: the public page says there are too few to compare
    page = Client().get("/market/").content.decode()
    assert "too few sellers to compare" in page
    assert "of the trade moved since" not in page


@pytest.mark.stage("cleared")
def test_use_is_told_per_product_and_adds_up_to_its_class() -> None:
    clearing = m.Clearing.objects.get(window=world.window())
    sold: Counter[tuple[str, str]] = Counter()
    for award in clearing.awards.select_related("bid__node_class__site"):
        country = award.bid.node_class.site.country
        zone = "EU" if country in world.ZONES["EU"] else country
        sold[award.bid.node_class.resource_class_id, zone] += award.units * (award.end_slot - award.start_slot)

    for row in clearing.use:
        for figure in ("sold", "offered", "proven"):
            assert row[figure] == sum(each[figure] for each in row["products"])
    told: Counter[tuple[str, str]] = Counter()
    for use in product_use(clearing, 1):
        told[use.resource_class, use.zone] += use.sold or 0
        assert use.share_ppm is None or 0 <= use.share_ppm <= ONE_PPM
    assert +told == sold
    assert all(use.sold is None and use.proven is None for use in product_use(clearing, 9))
