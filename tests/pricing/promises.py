"""What every clearing promises, each as a function of its outcome that asserts it, with plain loops over lines."""

from collections import Counter, defaultdict

from pricing.allocation import UNBOUNDED_MICROS
from pricing.book import adjusted_ask_micros
from pricing.bundle import public_bundle
from pricing.eligibility import match_lines
from pricing.verify import verify_bundle
from tests.pricing.optimum import best_supported_micros, best_welfare_micros, slack

ONE_MILLION = 1_000_000


def lines_of(outcome):
    return {line.id: line for line in outcome.book.demands}, {line.id: line for line in outcome.book.bids}


def fills(outcome):
    """Units by (demand, slot), by (bid, slot), and by (demand, bid, slot)."""
    got, gave, pairs = Counter(), Counter(), Counter()
    for award in outcome.awards:
        for t in range(award.start_slot, award.end_slot):
            got[award.demand_id, t] += award.units
            gave[award.bid_id, t] += award.units
            pairs[award.demand_id, award.bid_id, t] += award.units
    return got, gave, pairs


def caps_of(outcome):
    """The caps as the places of their bids and the units they allow, as `optimum` takes them."""
    of_bid = outcome.allocation.cap_of_bid.tolist()
    return [({j for j, place in enumerate(of_bid) if place == n}, cap.units_max)
            for n, cap in enumerate(outcome.allocation.caps)]


def is_convex(book):
    return not (book.demands.is_indivisible.any() or book.bids.is_indivisible.any())


def every_award_keeps_the_rules_and_lies_inside_both_lines(outcome):
    demands, bids = lines_of(outcome)
    found = match_lines(outcome.book)
    mask_of = dict(zip(demands, found.mask_of_demand.tolist(), strict=True))
    signature_of = dict(zip(bids, found.signature_of_bid.tolist(), strict=True))
    for award in outcome.awards:
        line, offer = demands[award.demand_id], bids[award.bid_id]
        assert mask_of[line.id] >= 0
        assert signature_of[offer.id] in found.masks[mask_of[line.id]]
        assert line.parent != offer.parent
        slots = set(range(award.start_slot, award.end_slot))
        assert award.units > 0
        assert slots
        assert slots <= set(range(line.start_slot, line.end_slot)) & set(range(offer.start_slot, offer.end_slot))


def no_line_gives_or_takes_more_than_it_has(outcome):
    demands, bids = lines_of(outcome)
    got, gave, _ = fills(outcome)
    assert all(units <= demands[name].quantity_units for (name, _), units in got.items())
    assert all(units <= bids[name].quantity_units for (name, _), units in gave.items())


def every_kind_is_served_as_it_must_be(outcome):
    got, gave, pairs = fills(outcome)
    demands, bids = lines_of(outcome)
    served = defaultdict(list)
    for line in demands.values():
        units = {got[line.id, t] for t in range(line.start_slot, line.end_slot)}
        if line.kind == "divisible":
            continue
        assert len(units) == 1, f"{line.id} is uneven"
        (whole,) = units
        assert whole == 0 or line.minimum_units <= whole
        assert line.kind != "block" or whole in (0, line.quantity_units)
        if whole and line.choice is not None:
            served[line.choice].append(line.id)
        sites = {bids[bid].attributes.site for demand, bid, _ in pairs if demand == line.id}
        assert not line.is_one_site or len(sites) <= 1
    assert all(len(names) == 1 for names in served.values())
    for offer in bids.values():
        units = {gave[offer.id, t] for t in range(offer.start_slot, offer.end_slot)}
        assert not offer.minimum_units or (len(units) == 1 and (units == {0} or min(units) >= offer.minimum_units))


def nobody_pays_above_a_limit_or_earns_below_an_ask(outcome):
    demands, bids = lines_of(outcome)
    paid, earned, bought, sold = Counter(), Counter(), Counter(), Counter()
    for award in outcome.awards:
        line, offer = demands[award.demand_id], bids[award.bid_id]
        for t in range(award.start_slot, award.end_slot):
            price = outcome.price_of(offer.id, t)
            assert price is not None
            assert price % 100 == 0
            assert offer.minimum_units or price >= adjusted_ask_micros(offer) >= offer.price_ask_micros
            assert line.kind != "divisible" or price <= line.price_limit_micros
            paid[line.id] += award.units * price
            earned[offer.id] += award.units * price
            bought[line.id] += award.units
            sold[offer.id] += award.units
    assert all(paid[name] <= demands[name].price_limit_micros * bought[name] for name in paid)
    assert all(earned[name] >= adjusted_ask_micros(bids[name]) * sold[name] for name in earned)


def money_and_units_balance(outcome):
    """Each amount is units times prices, so what buyers pay is what sellers get; flows carry what lines take."""
    _, bids = lines_of(outcome)
    got, gave, _ = fills(outcome)
    paid = 0
    for award in outcome.awards:
        prices = [outcome.price_of(award.bid_id, t) for t in range(award.start_slot, award.end_slot)]
        assert award.amount_micros == award.units * sum(prices)
        paid += award.amount_micros
    earned = sum(units * outcome.price_of(name, t) for (name, t), units in gave.items())
    assert paid == earned
    allocation, by_slot = outcome.allocation, Counter()
    for slot, units in zip(allocation.flow_slot.tolist(), allocation.flow_units.tolist(), strict=True):
        by_slot[slot] += units
    for t in range(outcome.book.slots):
        taken = sum(units for (_, slot), units in got.items() if slot == t)
        assert taken == sum(units for (_, slot), units in gave.items() if slot == t) == by_slot[t]
    assert len(bids) == len(outcome.book.bids)


def what_did_not_trade_has_no_price_and_what_did_has_one(outcome):
    signature_of = dict(outcome.signature_of)
    _, gave, _ = fills(outcome)
    traded = {(signature_of[name], t) for name, t in gave}
    for cell in outcome.prices:
        assert (cell.price_micros is not None) == ((cell.signature, cell.slot) in traded)
        assert cell.price_micros in (None, cell.dual_micros)
        assert 0 <= cell.dual_micros <= UNBOUNDED_MICROS
        assert cell.price_micros is None or (cell.best_limit_micros, cell.best_ask_micros) == (None, None)


def every_rest_has_exactly_one_reason(outcome):
    filled = Counter()
    for award in outcome.awards:
        hours = award.units * (award.end_slot - award.start_slot)
        filled["demand", award.demand_id] += hours
        filled["bid", award.bid_id] += hours
    whole = {(side, line.id): line.quantity_units * (line.end_slot - line.start_slot)
             for side, lines in (("demand", outcome.book.demands), ("bid", outcome.book.bids)) for line in lines}

    stated = {(reason.side, reason.line_id): reason.unfilled_unit_hours for reason in outcome.reasons}

    assert len(stated) == len(outcome.reasons)
    assert stated == {key: hours - filled[key] for key, hours in whole.items() if hours > filled[key]}


def no_parent_sells_more_than_its_share(outcome):
    """All bids of a parent together, over what trades of each product; caps that cannot hold are named."""
    book, share = outcome.book, outcome.book.rules.concentration_ppm
    if share is None:
        assert outcome.allocation.caps == outcome.allocation.caps_not_applicable == ()
        return
    _, bids = lines_of(outcome)
    product_of = {name: (line.attributes.resource_class, book.home_zone(line.attributes), line.attributes.tier)
                  for name, line in bids.items()}
    by_parent, total, parents = Counter(), Counter(), defaultdict(set)
    for name, line in bids.items():
        parents[product_of[name]].add(line.parent)
    _, gave, _ = fills(outcome)
    for (name, _), units in gave.items():
        by_parent[product_of[name], bids[name].parent] += units
        total[product_of[name]] += units
    few = {product for product, names in parents.items() if len(names) < -(-ONE_MILLION // share) + 1}
    assert set(outcome.allocation.caps_not_applicable) == few
    for (product, _), units in by_parent.items():
        assert product in few or units * ONE_MILLION <= share * total[product]


def the_foundation_keeps_to_its_budget(outcome):
    budget = outcome.book.rules.foundation_budget_micros
    demands, _ = lines_of(outcome)
    reserved = sum(demands[award.demand_id].price_limit_micros * award.units * (award.end_slot - award.start_slot)
                   for award in outcome.awards if demands[award.demand_id].is_foundation)
    assert budget is None or reserved <= budget


def the_certificate_is_true(outcome):
    """The settled bound is the welfare; the welfare of the lines is as stated; no whole allocation beats the bound."""
    demands, bids = lines_of(outcome)
    proof = outcome.certificate
    welfare = sum(
        award.units * (award.end_slot - award.start_slot)
        * (demands[award.demand_id].price_limit_micros - adjusted_ask_micros(bids[award.bid_id]))
        for award in outcome.awards)
    assert proof.welfare_micros == welfare == proof.settled_bound_micros
    assert proof.gap_micros == proof.bound_micros - proof.welfare_micros >= 0
    best = best_welfare_micros(outcome.book, whole=True, caps=caps_of(outcome))
    assert welfare - slack(best) <= best <= proof.bound_micros + slack(best)


def a_book_that_prices_can_ration_is_cleared_to_its_optimum(outcome):
    """Without indivisible lines and a budget; where no optimum is whole the gap is stated."""
    book, caps = outcome.book, caps_of(outcome)
    if not is_convex(book):
        return
    fractional = best_welfare_micros(book, whole=False, caps=caps)
    assert outcome.bound_micros >= fractional - slack(fractional)
    if book.rules.foundation_budget_micros is not None:
        return
    best = best_welfare_micros(book, whole=True, caps=caps)
    if not caps or best > fractional - slack(best):
        assert abs(outcome.welfare_micros - best) < slack(best)
    if best > fractional - slack(best):
        assert outcome.gap_micros == 0
    else:
        assert outcome.gap_micros > 0


def no_set_of_indivisible_lines_that_prices_support_is_worth_more(outcome):
    better = best_supported_micros(outcome.book, above=outcome.welfare_micros, caps=caps_of(outcome))
    assert better is None, better


def the_verifier_agrees(outcome):
    report = verify_bundle(public_bundle(outcome, window="w"))

    assert report.ok, [check for check in report.checks if not check.ok]
    assert (report.welfare_micros, report.bound_micros, report.gap_micros, report.settled_bound_micros) == (
        outcome.welfare_micros, outcome.bound_micros, outcome.gap_micros, outcome.certificate.settled_bound_micros)
    assert (report.noncompliant_awards, report.losers_without_reason) == (0, 0)


PROMISES = (
    every_award_keeps_the_rules_and_lies_inside_both_lines,
    no_line_gives_or_takes_more_than_it_has,
    every_kind_is_served_as_it_must_be,
    nobody_pays_above_a_limit_or_earns_below_an_ask,
    money_and_units_balance,
    what_did_not_trade_has_no_price_and_what_did_has_one,
    every_rest_has_exactly_one_reason,
    no_parent_sells_more_than_its_share,
    the_foundation_keeps_to_its_budget,
    the_certificate_is_true,
    a_book_that_prices_can_ration_is_cleared_to_its_optimum,
    the_verifier_agrees,
)
