"""Public bundles written by hand: a second writer, and a second evaluation of the bound, for tests of the verifier.

`write_bundle` takes a book with any allocation, so a bundle need not come from the solver. Everything is written row by
row and summed with plain loops: slow, short, and unlike both the engine and the script that it is read by.
"""

import hashlib
import json
import random
from collections import defaultdict
from fractions import Fraction
from math import ceil

import numpy as np

from pricing.allocation import Allocation, Cap
from pricing.awards import AwardColumns, cut_awards, traded_units
from pricing.book import book_from_columns, make_book
from pricing.components import split_prices
from pricing.eligibility import match_lines
from pricing.lines import Attributes, Requirement, Rules, attributes_facts, canonical_json, name_of, requirement_facts
from pricing.reasons import judge, quote_cells, reason_lines
from tests.pricing.allocations import Trade, case
from tests.pricing.lines import bid, demand

PARAMETERS = {"tick_micros": 100, "price_max_micros": 10**9, "quantity_max_units": 1 << 20, "probation_slots_max": 24}
PARTS = ("base_micros", "scarcity_micros", "locality_micros", "tier_micros", "sla_micros")
DEFAULTS = {"minimum_units": 0, "choice": None, "curve": None, "is_one_site": False, "is_foundation": False}


def json_lines(rows):
    return b"".join(canonical_json(row) + b"\n" for row in rows)


def write_bundle(book, eligibility, allocation, *, window="w1", awards=None):
    """The nine files and their manifest for this allocation, whether or not it is a good one."""
    awards = cut_awards(book, eligibility, allocation) if awards is None else awards
    quotes = quote_cells(book, eligibility, allocation, traded_units(book, eligibility, awards) > 0)
    reasons = [vars(line) for line in reason_lines(book, judge(book, eligibility, allocation, quotes))]
    award_rows = sorted(
        ({"demand_id": book.demands.ids[i], "bid_id": book.bids.ids[j], "start_slot": int(start), "end_slot": int(end),
          "units": int(units), "amount_micros": int(amount)}
         for i, j, start, end, units, amount in zip(*vars(awards).values(), strict=True)),
        key=lambda row: (row["demand_id"], row["bid_id"], row["start_slot"]))
    rows = {
        "requirements": [{"requirement": name_of(requirement_facts(rule)), **requirement_facts(rule)}
                         for rule in book.requirements],
        "attributes": [{"attributes": name_of(attributes_facts(known)), **attributes_facts(known)}
                       for known in book.attributes],
        "demands": [_line(line, requirement=name_of(requirement_facts(line.requirement))) for line in book.demands],
        "bids": [_line(line, attributes=name_of(attributes_facts(line.attributes))) for line in book.bids],
        "latency": [{"vantage": v, "site": s, "latency_ms": ms} for (v, s), ms in book.latency_ms.items()],
        "masks": _mask_rows(book, eligibility),
        "prices": _price_rows(book, eligibility, allocation, awards, quotes),
        "awards": award_rows, "reasons": reasons,
    }
    files = {f"{name}.jsonl": json_lines(table) for name, table in rows.items()}
    certificate = certify(book, eligibility, allocation, rows)
    manifest = {
        "format": "grove-clearing", "rule_version": 2, "window": window, "slots": book.slots,
        "input_hash": book.input_hash.hex(), "parameters": PARAMETERS, "rules": vars(book.rules),
        "home_zones": dict(book.home_zones), **certificate,
        "caps": [{"parent": book.parents[cap.parent], "product": list(cap.product), "units_max": cap.units_max,
                  "rho_micros": cap.rho_micros, "rho_relaxed_micros": cap.rho_relaxed_micros, "is_held": cap.is_held}
                 for cap in allocation.caps],
        "caps_not_applicable": [list(product) for product in allocation.caps_not_applicable],
        "sigma": list(allocation.sigma),
        "paid_micros": sum(row["amount_micros"] for row in award_rows),
        "counts": {name: len(rows[name]) for name in ("demands", "bids", "awards", "reasons")},
        "files": {name: hashlib.sha256(text).hexdigest() for name, text in files.items()},
    }
    return {"manifest.json": canonical_json(manifest) + b"\n", **files}


def _line(line, **names):
    facts = {**vars(line), **names}
    if facts.get("kind") == "block":
        del facts["minimum_units"]
    return {key: value for key, value in facts.items() if key not in DEFAULTS or value != DEFAULTS[key]}


def _mask_rows(book, eligibility):
    rows = [{"signature": signature.name, "attributes": name_of(attributes_facts(signature.attributes)),
             "parent": signature.parent} for signature in eligibility.signatures]
    for n, need in enumerate(eligibility.needs):
        s = eligibility.mask_of_need[n]
        rows.append({
            "requirement": name_of(requirement_facts(book.requirements[need.requirement])), "is_long": need.is_long,
            "parent": need.parent, "emptied_by": eligibility.emptied_by_need[n],
            "accepts": sorted(eligibility.signatures[a].name for a in eligibility.masks[s]) if s >= 0 else [],
        })
    return rows


def _price_rows(book, eligibility, allocation, awards, quotes):
    parts = split_prices(book, eligibility, allocation, awards)
    rows = []
    for a, signature in enumerate(eligibility.signatures):
        def over_slots(table, where, a=a):
            return [int(x) if keep else None for x, keep in zip(table[a], where, strict=True)]

        traded, relaxed = parts.is_traded[a], allocation.relaxed_micros
        limit, ask = quotes.bid_up_to, quotes.lowest_ask
        rows.append({
            "signature": signature.name, "price_micros": over_slots(allocation.lam_micros, traded),
            "dual_micros": allocation.lam_micros[a].tolist(),
            "relaxed_micros": None if relaxed is None else relaxed[a].tolist(),
            "best_limit_micros": over_slots(limit, ~traded & (limit[a] >= 0)),
            "best_ask_micros": over_slots(ask, ~traded & (ask[a] >= 0)),
            **{part: over_slots(getattr(parts, part), traded) for part in PARTS},
        })
    return sorted(rows, key=lambda row: row["signature"])


# -- the bound, line by line and slot by slot --------------------------------------------------------------------------


def certify(book, eligibility, allocation, rows):
    """Welfare, bound, gap and settled bound of the rows."""
    got, got_in, gave, gave_in, sites = *(defaultdict(int) for _ in range(4)), {}
    bids = {line.id: line for line in book.bids}
    for row in rows["awards"]:
        hours = row["end_slot"] - row["start_slot"]
        got[row["demand_id"]] += row["units"] * hours
        gave[row["bid_id"]] += row["units"] * hours
        sites[row["demand_id"]] = bids[row["bid_id"]].attributes.site
        for t in range(row["start_slot"], row["end_slot"]):
            got_in[row["demand_id"], t] += row["units"]
            gave_in[row["bid_id"], t] += row["units"]
    welfare = sum(got[line.id] * line.price_limit_micros for line in book.demands)
    welfare -= sum(gave[line.id] * int(ask) for line, ask in zip(book.bids, book.bids.ask, strict=True))
    wanted = {(line.id, t): line.quantity_units for line in book.demands
              for t in range(line.start_slot, line.end_slot)}
    is_held = allocation.sigma[0] > 0  # what units being whole and the budget decided counts as it was awarded
    settled = {(line.id, t): wanted[line.id, t] if line.kind == "divisible" and not (line.is_foundation and is_held)
               else got_in[line.id, t] for line in book.demands for t in range(line.start_slot, line.end_slot)}
    offered = {(line.id, t): line.quantity_units for line in book.bids for t in range(line.start_slot, line.end_slot)}
    lam, nothing = allocation.lam_micros, Fraction(0)
    relaxed = lam if allocation.relaxed_micros is None else allocation.relaxed_micros
    bound = ceil(_g(book, eligibility, allocation, relaxed, [cap.rho_relaxed_micros for cap in allocation.caps],
                    Fraction(*allocation.sigma), wanted, offered, None))
    holds_caps = any(cap.is_held for cap in allocation.caps)
    kept = {line.id: bool(gave[line.id] or not line.minimum_units) for line in book.bids}
    settled_offer = {(line.id, t): gave_in[line.id, t] if holds_caps and cap >= 0 else
                     kept[line.id] * offered[line.id, t]
                     for line, cap in zip(book.bids, allocation.cap_of_bid, strict=True)
                     for t in range(line.start_slot, line.end_slot)}
    return {"welfare_micros": max(0, welfare), "bound_micros": bound, "gap_micros": max(0, bound - welfare),
            "settled_bound_micros": ceil(_g(book, eligibility, allocation, lam, [
                cap.rho_micros * (not holds_caps) for cap in allocation.caps], nothing, settled, settled_offer, sites))}


def _g(book, eligibility, allocation, lam, rho, sigma, wanted, offered, sites):
    """g at these duals; `sites` holds the site of each served line where choices and sites are decided, else None."""
    budget = (book.rules.foundation_budget_micros or 0) // 100 * 100  # limits are on the tick
    total, choices = Fraction(budget) * sigma, defaultdict(list)
    for i, line in enumerate(book.demands):
        s = eligibility.mask_of_demand[i]
        if s < 0:
            continue
        slots = range(line.start_slot, line.end_slot)
        value = line.price_limit_micros * (1 - sigma if line.is_foundation else 1)
        by_site = defaultdict(list)
        for a in eligibility.masks[s]:
            by_site[eligibility.signatures[a].attributes.site if line.is_one_site else None].append(a)
        if sites is not None and line.is_one_site and line.id in sites:
            by_site = {sites[line.id]: by_site[sites[line.id]]}
        gains = [[wanted[line.id, t] * (value - min(int(lam[a][t]) for a in members)) for t in slots]
                 for members in by_site.values()]
        if line.kind == "divisible":
            gain = sum(max(0, x) for x in gains[0])
        else:
            gain = max(0, *(sum(of_site) for of_site in gains))
        if line.choice is not None and sites is None:
            choices[line.choice].append(gain)
        else:
            total += gain
    total += sum(max(gains) for gains in choices.values())
    for j, line in enumerate(book.bids):
        cost = int(book.bids.ask[j]) + ([*rho, 0])[allocation.cap_of_bid[j]]
        gains = [offered[line.id, t] * (int(lam[eligibility.signature_of_bid[j]][t]) - cost)
                 for t in range(line.start_slot, line.end_slot)]
        total += max(0, sum(gains)) if line.minimum_units else sum(max(0, x) for x in gains)
    return total + sum(cap.units_max * x for cap, x in zip(allocation.caps, rho, strict=True))


# -- a market with one of everything, worked out by hand ---------------------------------------------------------------


def everything():
    """Every kind of line, rule and reason in one small market, at an optimum that is worked out by hand.

    H100 capacity costs 1,500 in slots 0 and 1, where the large bid b2 in Lyon is partly used; in slots 2 and 3 only b1
    in Berlin sells. V100 shows the cap, the Foundation's line the budget: at 1,800 (1 - 1/6) it is worth 1,500.
    """
    v100 = {"resource_class": "V100", "site": "rome", "country": "IT", "units": 10}
    book = make_book(
        slots=4, rules=Rules(concentration_ppm=500_000, foundation_budget_micros=1_800), home_zones={"DE": "EU"},
        latency_ms={("paris", "berlin"): 15, ("paris", "lyon"): 35, ("paris", "rome"): 99},
        demands=[
            demand("d1", 3_000, 2, (0, 4), vantage="paris", latency_ms_max=20, parent="both"),
            demand("d2", 2_500, 3, (0, 2)), demand("w", 2_800, 1, (1, 4), kind="window"),
            demand("low", 1_000, 2, (0, 2)), demand("dear", 1_200, 1, (0, 3), kind="window"),
            demand("strict", 9_000, 1, (0, 1), tier_min=3),
            demand("k1", 2_600, 1, (0, 1), kind="block", choice="k"),
            demand("k2", 2_600, 1, (1, 2), kind="block", choice="k"),
            demand("one", 2_900, 2, (0, 2), kind="window", is_one_site=True, countries=("DE", "FR")),
            demand("huge", 4_000, 50, (0, 3), kind="block"), demand("late", 4_000, 1, (3, 4), countries=("FR",)),
            demand("part", 4_000, 4, (0, 2), kind="window", minimum_units=2, parent="both"),
            demand("fund", 1_800, 3, (0, 1), is_foundation=True),
            demand("s1", 1_100, 1, (0, 2), curve="s", parent="stair"),
            demand("s2", 1_000, 5, (0, 2), curve="s", parent="stair"),
            demand("v", 2_000, 10, (0, 1), accepted_classes=("V100",)),
        ],
        bids=[
            bid("b1", 1_200, 3, (0, 4)), bid("b2", 1_500, 20, (0, 3), site="lyon", country="FR"),
            bid("b3", 5_000, 4, (0, 4), quality_bps=9_000, tier=2),
            bid("own", 5_000, 4, (0, 1), parent="both", country="JP"),
            bid("shut", 100, 4, (0, 4), tier=0, standing="SUSPENDED"), bid("bm", 1_300, 10, (0, 4), minimum_units=5),
            bid("v1", 100, **v100), bid("v2", 500, **v100), bid("v3", 900, **v100, curve="v", parent="three"),
            bid("v4", 1_000, **v100, curve="v", parent="three"),
        ],
    )  # fmt: skip
    trades = [
        *(Trade("d1", "b1", t, 2) for t in range(4)), Trade("d2", "b1", 0, 1), Trade("d2", "b2", 0, 2),
        Trade("d2", "b2", 1, 3), *(Trade("w", "b1", t, 1) for t in (1, 2, 3)), Trade("k1", "b2", 0, 1),
        *(Trade("one", "b2", t, 2) for t in (0, 1)), *(Trade("part", "b2", t, 4) for t in (0, 1)),
        Trade("fund", "b2", 0, 1), Trade("v", "v1", 0, 5), Trade("v", "v2", 0, 5),
    ]
    eligibility = match_lines(book)
    lam, relaxed = [], []
    for signature in eligibility.signatures:
        known = signature.attributes
        row = {"rome": [500] * 4, "lyon": [1_500] * 4, "berlin": [1_500, 1_500, 1_400, 2_000]}[known.site]
        row = [5_000] * 4 if known.tier == 2 or signature.parent else row
        row = [0] * 4 if known.standing == "SUSPENDED" else row
        lam.append(row)
        relaxed.append([3_900, 3_900, 3_900, *row[3:]] if row[0] == 1_500 else row)
    place = {name: n for n, name in enumerate(book.parents)}
    product = ("V100", "IT", 1)
    caps = tuple(Cap(place[parent], product, 5, rho, rho)
                 for parent, rho in sorted({"seller-v1": 400, "seller-v2": 0, "three": 0}.items()))
    parent_of = [next((k for k, cap in enumerate(caps) if book.parents[cap.parent] == line.parent), -1)
                 for line in book.bids]
    return case(
        book, *trades, lam=lam, caps=caps, cap_of_bid=np.array(parent_of), sigma=(1, 6),
        relaxed_micros=np.array(relaxed), caps_not_applicable=tuple(("H100", zone, tier) for zone, tier in (
            ("EU", 0), ("EU", 1), ("EU", 2), ("FR", 1), ("JP", 1))),
    )


# -- taken apart and sealed again --------------------------------------------------------------------------------------


class Forger:
    """A bundle taken apart, to be changed and sealed again as if nothing had happened."""

    def __init__(self, files):
        self.files = dict(files)
        self.rows = {name: [json.loads(line) for line in text.splitlines()] for name, text in files.items()}
        self.manifest = self.rows.pop("manifest.json")[0]

    def row(self, file, **match):
        return next(row for row in self.rows[f"{file}.jsonl"] if all(row.get(k) == v for k, v in match.items()))

    def award(self, demand_id):
        return self.row("awards", demand_id=demand_id)

    def row_of_cap(self, parent):
        return next(cap for cap in self.manifest["caps"] if cap["parent"] == parent)

    def cell(self, bid_id):
        """The row of prices of a bid whose parent buys nothing."""
        key = self.row("bids", id=bid_id)["attributes"]
        facts = {k: v for k, v in self.row("attributes", attributes=key).items() if k != "attributes"}
        return self.row("prices", signature=name_of({"attributes": facts, "parent": None}))

    def sealed(self):
        for name, rows in self.rows.items():
            self.files[name] = json_lines(rows)
        self.manifest["files"] = {name: hashlib.sha256(self.files[name]).hexdigest() for name in self.rows}
        self.manifest["counts"] = {
            name: len(self.rows[f"{name}.jsonl"]) for name in ("demands", "bids", "awards", "reasons")
        }
        return {**self.files, "manifest.json": canonical_json(self.manifest) + b"\n"}


# -- large bundles -----------------------------------------------------------------------------------------------------

SLOTS, CLASSES, LANES, GROUP = 168, 16, 4, 4
SITES = ("DE", "FR", "US", "JP")  # one site a country


def scale_rows(lines, seed=1):
    """Rows of a market in balance, without a solver: three lines of four are demands, half of each side is served.

    Every class has one price a slot at all its sites. Capacity is cut into lanes over the whole horizon; a lane is cut
    once into bids and once into demands, `GROUP` lanes make the quantity of a bid, `LANES` that of a demand, so that
    each demand is served from several bids. Whoever is served is in the money in every slot, whoever is not is out.
    """
    rng = random.Random(seed)
    price = [[rng.randrange(5_000, 30_000) * 100 for _ in range(SLOTS)] for _ in range(CLASSES)]
    demands, bids, awards = [], [], []
    while len(demands) < lines * 3 // 8:
        known = rng.randrange(CLASSES), rng.randrange(len(SITES))
        bundles = [_cuts(rng, 23) for _ in range(GROUP)]
        for cuts in bundles:
            for start, end in cuts:
                demands.append(_scale_demand(rng, known, start, end, max(price[known[0]][start:end])))
        first = len(demands) - sum(map(len, bundles))
        for _ in range(LANES):  # one lane of each bundle makes one row of bids
            units = rng.randrange(1, 9)
            for start, end in _cuts(rng, 60):
                bids.append(_scale_bid(rng, known, start, end, units * GROUP, min(price[known[0]][start:end])))
                place = first
                for cuts in bundles:
                    for low, high in cuts:
                        if max(low, start) < min(high, end):
                            awards.append((place, len(bids) - 1, max(low, start), min(high, end), units))
                        place += 1
            place = first
            for cuts in bundles:
                for _ in cuts:
                    demands[place]["quantity_units"] += units
                    place += 1
    while len(demands) < lines * 3 // 4:
        known, (start, end) = (rng.randrange(CLASSES), rng.randrange(len(SITES))), rng.choice(_cuts(rng, 23))
        demands.append(_scale_demand(rng, known, start, end, min(price[known[0]][start:end]) - 300_000))
        demands[-1]["quantity_units"] = rng.randrange(1, 33)
    while len(demands) + len(bids) < lines:
        known, (start, end) = (rng.randrange(CLASSES), rng.randrange(len(SITES))), rng.choice(_cuts(rng, 60))
        bids.append(_scale_bid(rng, known, start, end, rng.randrange(1, 33), max(price[known[0]][start:end]) + 300_000))
    return price, demands, bids, awards


def _cuts(rng, mean):
    ends = sorted({*rng.sample(range(1, SLOTS), max(1, round(rng.uniform(0.5, 1.5) * SLOTS / mean) - 1)), SLOTS})
    return list(zip([0, *ends], ends, strict=False))


def _scale_demand(rng, known, start, end, least):
    return {"kind": rng.choices(["divisible", "window", "block"], (6, 3, 1))[0], "start_slot": start, "end_slot": end,
            "price_limit_micros": least + rng.randrange(2_000) * 100, "parent": f"buyer{rng.randrange(500)}",
            "requirement": (known[0], rng.choice([None, known[1]]), rng.randrange(2)), "quantity_units": 0}


def _scale_bid(rng, known, start, end, units, most):
    return {"attributes": known, "start_slot": start, "end_slot": end, "quantity_units": units,
            "price_ask_micros": most - rng.randrange(2_000) * 100, "parent": f"seller{rng.randrange(500)}"}


def scale_bundle(lines, seed=1):
    """The files of `scale_rows`, with the reasons and quotes of the engine."""
    price, demands, bids, awards = scale_rows(lines, seed)
    attributes = [Attributes(f"class{c}", country, country, country, country, 1, f"site-{country}", 9_900, "PROVEN")
                  for c in range(CLASSES) for country in SITES]
    wanted = sorted({row["requirement"] for row in demands}, key=repr)
    requirements = [Requirement((f"class{c}",), None if site is None else (SITES[site],), None, tier)
                    for c, site, tier in wanted]
    place = {key: n for n, key in enumerate(wanted)}
    parents = [f"{side}{n}" for side in ("buyer", "seller") for n in range(500)]
    parent = {name: n for n, name in enumerate(parents)}

    def column(rows, name):
        return np.array([row[name] for row in rows], dtype=np.int64)

    common = {"quantity": "quantity_units", "start": "start_slot", "end": "end_slot"}
    kind = np.array([("divisible", "window", "block").index(row["kind"]) for row in demands])
    none = np.full(len(demands), -1)
    book = book_from_columns(
        slots=SLOTS, requirements=requirements, attributes=attributes, parents=parents,
        demands={"ids": [f"d{n:015x}" for n in range(len(demands))], "kind": kind, "rank": np.arange(len(demands)),
                 **{name: column(demands, source) for name, source in common.items()},
                 "price": column(demands, "price_limit_micros"), "choice": none, "curve": none,
                 "minimum": np.where(kind == 2, column(demands, "quantity_units"), 0),
                 "requirement": np.array([place[row["requirement"]] for row in demands]),
                 "parent": np.array([parent[row["parent"]] for row in demands]), "is_one_site": 0 * none,
                 "is_foundation": 0 * none},
        bids={"ids": [f"b{n:015x}" for n in range(len(bids))], "rank": np.arange(len(bids)),
              **{name: column(bids, source) for name, source in common.items()},
              "price": column(bids, "price_ask_micros"), "quality": np.full(len(bids), 10_000),
              "attributes": np.array([row["attributes"][0] * len(SITES) + row["attributes"][1] for row in bids]),
              "parent": np.array([parent[row["parent"]] for row in bids]), "minimum": np.zeros(len(bids), dtype=int),
              "curve": np.full(len(bids), -1)},
    )
    return _write_scale(book, price, sorted(awards))


def _write_scale(book, price, awards):
    eligibility = match_lines(book)
    lam = np.array([price[int(signature.attributes.resource_class[5:])] for signature in eligibility.signatures])
    demand, bid, start, end, units = np.array(awards, dtype=np.int64).T
    total = np.concatenate([np.zeros((len(lam), 1), dtype=np.int64), np.cumsum(lam, axis=1)], axis=1)
    sold_by = eligibility.signature_of_bid[bid]
    cut = AwardColumns(demand, bid, start, end, units, units * (total[sold_by, end] - total[sold_by, start]))
    fills = []
    for side, line in ((book.demands, demand), (book.bids, bid)):
        ptr = np.concatenate([[0], np.cumsum(side.hours)])
        change = np.zeros(ptr[-1] + 1, dtype=np.int64)
        np.add.at(change, ptr[line] + start - side.start[line], units)
        np.add.at(change, ptr[line] + end - side.start[line], -units)
        fills += [ptr, np.cumsum(change)[:-1]]
    nothing = np.zeros(0, dtype=np.int64)
    no_line, no_bid = np.zeros(len(book.demands), dtype=bool), np.zeros(len(book.bids), dtype=bool)
    allocation = Allocation(
        lam, None, (), np.full(len(book.bids), -1), (), (0, 1), *fills, nothing, (), nothing, nothing, nothing,
        nothing, nothing, no_line, no_bid, no_line, 0)
    quotes = quote_cells(book, eligibility, allocation, traded_units(book, eligibility, cut) > 0)
    reasons = reason_lines(book, judge(book, eligibility, allocation, quotes))
    hours = units * (end - start)
    welfare = int((hours * (book.demands.price[demand] - book.bids.ask[bid])).sum())
    ids = book.demands.ids, book.bids.ids
    files = {
        "requirements.jsonl": json_lines({"requirement": name_of(requirement_facts(rule)), **requirement_facts(rule)}
                                         for rule in book.requirements),
        "attributes.jsonl": json_lines({"attributes": name_of(attributes_facts(known)), **attributes_facts(known)}
                                       for known in book.attributes),
        "demands.jsonl": json_lines(_line(line, requirement=name_of(requirement_facts(line.requirement)))
                                    for line in book.demands),
        "bids.jsonl": json_lines(_line(line, attributes=name_of(attributes_facts(line.attributes)))
                                 for line in book.bids),
        "latency.jsonl": b"", "masks.jsonl": json_lines(_mask_rows(book, eligibility)),
        "prices.jsonl": json_lines(_price_rows(book, eligibility, allocation, cut, quotes)),
        "awards.jsonl": json_lines(
            {"amount_micros": amount, "bid_id": ids[1][j], "demand_id": ids[0][i], "end_slot": e, "start_slot": s,
             "units": u}
            for i, j, s, e, u, amount in zip(*(column.tolist() for column in vars(cut).values()), strict=True)),
        "reasons.jsonl": json_lines(map(vars, reasons)),
    }
    manifest = {
        "format": "grove-clearing", "rule_version": 2, "window": "scale", "slots": book.slots,
        "input_hash": book.input_hash.hex(), "parameters": PARAMETERS, "rules": vars(book.rules), "home_zones": {},
        "welfare_micros": welfare, "bound_micros": welfare, "gap_micros": 0, "settled_bound_micros": welfare,
        "caps": [], "caps_not_applicable": [], "sigma": [0, 1],
        "paid_micros": int(cut.amount_micros.sum()),
        "counts": {name: files[f"{name}.jsonl"].count(b"\n") for name in ("demands", "bids", "awards", "reasons")},
        "files": {name: hashlib.sha256(text).hexdigest() for name, text in files.items()},
    }
    return {"manifest.json": canonical_json(manifest) + b"\n", **files}
