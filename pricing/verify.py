#!/usr/bin/env python3
"""Check the public bundle of a clearing. Plain Python, standard library only: `python3 verify.py DIRECTORY`.

This file shares no code with the engine. From the sealed lines, the rules and the published numbers alone it decides:
are the files the ones that the manifest names; does every award keep every rule, slot, quantity, limit and ask; is each
amount the price times the units; does welfare equal the dual bound, so that no other allocation could be worth more;
and has every line that was not filled exactly one reason, and a true one.

    g = sum q (v - mu)^+  +  sum_windows q (vL - sum mu)^+  +  sum o (dual - ask)^+  >=  welfare of any allocation,
    mu = the least dual among the signatures that a demand accepts

It does not decide whether this is *the* canonical one of several equally good results; that takes a replay.
Money is micro-USD, prices are per unit-hour, `ask` is quality-adjusted: ask * 10000 / quality, rounded up to the tick.
"""

import hashlib
import json
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NoReturn

FORMAT, RULE_VERSION = "grove-clearing", 1
TICK, PRICE_MAX, QUANTITY_MAX, SLOTS_MAX, PROBATION_SLOTS = 100, 10**9, 1 << 20, 744, 24
NO_CAPACITY = 10**12  # above the whole value of any demand
UNREADABLE = "cannot be read"
BRACKETS_MAX = 1_000  # in one line; the real ones hold a handful
GAP_SHARE = 10**9  # the gap may be at most this part of the welfare
MANIFEST = "manifest.json"
LINE_FILES = ("awards", "bids", "demands", "latency", "masks", "prices", "reasons")

Row = dict[str, Any]
Grid = dict[str, list[int | None]]


@dataclass(frozen=True)
class Check:
    name: str
    ok: bool
    detail: str


@dataclass(frozen=True)
class Report:
    """What was found; the numbers are recomputed, and 0 where the bundle could not be read."""

    ok: bool
    checks: tuple[Check, ...]
    welfare_micros: int
    bound_micros: int
    gap_micros: int
    awards: int
    losers: int  # lines not filled in full
    losers_without_reason: int
    noncompliant_awards: int

    def failed(self) -> tuple[str, ...]:
        return tuple(check.name for check in self.checks if not check.ok)


class Refused(Exception):
    """A check that the bundle does not pass; the sentence names the first offender."""


READING_CHECKS = ("files", "hashes", "lines", "references")  # the others make sense only where all these pass
CLEARING_CHECKS = (
    "input_hash", "masks", "rules", "slots", "quantities", "windows", "balance", "prices", "asks", "limits", "amounts",
    "welfare", "bound", "gap", "reasons_complete", "reasons_true",
)


def verify_bundle(files: Mapping[str, bytes]) -> Report:
    """Run every check. Never raises on a bad bundle: what cannot be read is a failed check."""
    checks: list[Check] = []
    bundle = Bundle(files)
    if all(_run(checks, name, getattr(bundle, f"check_{name}")) for name in READING_CHECKS):
        for name in CLEARING_CHECKS:
            _run(checks, name, getattr(bundle, f"check_{name}"))
        if all(check.ok or not check.detail.startswith(UNREADABLE) for check in checks):
            return bundle.report(tuple(checks))
    return Report(False, tuple(checks), 0, 0, 0, 0, 0, 0, 0)


def _run(checks: list[Check], name: str, check: Callable[[], str]) -> bool:
    try:
        checks.append(Check(name, True, check()))
    except Refused as refusal:
        checks.append(Check(name, False, str(refusal)))
    except (LookupError, TypeError, ValueError, AttributeError, RecursionError) as problem:
        checks.append(Check(name, False, f"{UNREADABLE}: {problem!r}"))
    return checks[-1].ok


def _refuse(sentence: str) -> NoReturn:
    raise Refused(sentence)


def _canonical(value: object) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def _no_float(text: str) -> NoReturn:
    raise ValueError(f"{text} is not an integer")


def _parse(text: bytes) -> Any:
    # A bundle nests three deep. Where some library has raised Python's recursion limit, a text that nests without end
    # would overrun the C stack, and no exception could be caught.
    if text.count(b"[") + text.count(b"{") > BRACKETS_MAX:
        raise ValueError("it nests too deeply")
    return json.loads(text.decode(), parse_float=_no_float, parse_constant=_no_float)


class Bundle:
    """The parsed files and everything recomputed from them. Each check answers with one sentence or refuses."""

    def __init__(self, files: Mapping[str, bytes]) -> None:
        self.files = files

    @cached_property
    def manifest(self) -> Row:
        parsed: Row = _parse(self.files[MANIFEST])
        return parsed

    @cached_property
    def slots(self) -> int:
        slots: int = self.manifest["slots"]
        return slots

    def _rows(self, name: str) -> list[Row]:
        return [_parse(line) for line in self.files[f"{name}.jsonl"].split(b"\n")[:-1]]

    @cached_property
    def demand_rows(self) -> list[Row]:
        return self._rows("demands")

    @cached_property
    def bid_rows(self) -> list[Row]:
        return self._rows("bids")

    @cached_property
    def latency_rows(self) -> list[Row]:
        return self._rows("latency")

    @cached_property
    def mask_rows(self) -> list[Row]:
        return self._rows("masks")

    @cached_property
    def price_rows(self) -> list[Row]:
        return self._rows("prices")

    @cached_property
    def awards(self) -> list[Row]:
        return self._rows("awards")

    @cached_property
    def reasons(self) -> list[Row]:
        return self._rows("reasons")

    def report(self, checks: tuple[Check, ...]) -> Report:
        unfilled = self.unfilled_demands.keys() | self.unfilled_bids.keys()
        reasoned = {(row["side"], row["line_id"]) for row in self.reasons}
        return Report(
            ok=all(check.ok for check in checks), checks=checks, welfare_micros=self.welfare,
            bound_micros=self.bound, gap_micros=self.bound - self.welfare, awards=len(self.awards),
            losers=len(unfilled), losers_without_reason=len(unfilled - reasoned),
            noncompliant_awards=sum(not self.is_eligible(row) for row in self.awards),
        )

    # -- the files --------------------------------------------------------------------------------------------------

    def check_files(self) -> str:
        expected = {MANIFEST, *(f"{name}.jsonl" for name in LINE_FILES)}
        if set(self.files) != expected:
            _refuse(f"missing or foreign files: {sorted(set(self.files) ^ expected)}")
        for name, text in self.files.items():
            if text and not text.endswith(b"\n"):
                _refuse(f"{name} does not end its last line")
            for number, line in enumerate(text.split(b"\n")[:-1], 1):
                if _canonical(_parse(line)) != line:
                    _refuse(f"{name} line {number} is not canonical JSON")
        if (self.manifest["format"], self.manifest["rule_version"]) != (FORMAT, RULE_VERSION):
            _refuse("another format or rule version")
        parameters = {"tick_micros": TICK, "price_max_micros": PRICE_MAX, "quantity_max_units": QUANTITY_MAX,
                      "probation_slots_max": PROBATION_SLOTS}
        if self.manifest["parameters"] != parameters:
            _refuse("other parameters than those of this rule version")
        return f"{len(self.files)} files, canonical"

    def check_hashes(self) -> str:
        found = {name: hashlib.sha256(text).hexdigest() for name, text in self.files.items() if name != MANIFEST}
        named: Row = self.manifest["files"]
        wrong = sorted(name for name in found.keys() | named.keys() if named.get(name) != found.get(name))
        if wrong:
            _refuse(f"the manifest names other hashes than those of {wrong}")
        return f"bundle hash {hashlib.sha256(self.files[MANIFEST]).hexdigest()}"

    # -- the sealed lines -------------------------------------------------------------------------------------------

    def check_lines(self) -> str:
        """Every number is a whole number inside its bounds; ids are unique and in order."""
        _whole(self.slots, 1, SLOTS_MAX, "slots")
        for rows, price in ((self.demand_rows, "price_limit_micros"), (self.bid_rows, "price_ask_micros")):
            for row in rows:
                _whole(row["quantity_units"], 1, QUANTITY_MAX, row["id"])
                _whole(row["start_slot"], 0, self.slots - 1, row["id"])
                _whole(row["end_slot"], row["start_slot"] + 1, self.slots, row["id"])
                _whole(row["accepted_rank"], 0, None, row["id"])
                _whole(row[price], TICK, PRICE_MAX, row["id"])
                if row[price] % TICK:
                    _refuse(f"{row['id']} has a price off the tick")
            ids = [row["id"] for row in rows]
            if ids != sorted(set(ids)):
                _refuse("ids are not unique and in order")
        for row in self.bid_rows:
            _whole(row["quality_bps"], 1, 10_000, row["id"])
            _whole(row["attributes"]["tier"], 0, 3, row["id"])
            _whole(row["attributes"]["sla_bps"], 0, 10_000, row["id"])
        for row in self.demand_rows:
            _whole(row["requirement"]["tier_min"], 0, 3, row["id"])
            _whole(row["requirement"]["sla_bps_min"], 0, 10_000, row["id"])
        if any(row["kind"] not in ("divisible", "window") for row in self.demand_rows):
            _refuse("a demand of unknown kind")
        for row in self.latency_rows:
            _whole(row["latency_ms"], 0, None, "latency")
        return f"{len(self.demand_rows)} demands, {len(self.bid_rows)} bids"

    def check_references(self) -> str:
        """Awards, reasons and prices speak of lines and cells of this book, in whole numbers; counts agree."""
        for row in self.awards:
            _whole(row["units"], 1, QUANTITY_MAX, "award")
            _whole(row["start_slot"], 0, self.slots - 1, "award")
            _whole(row["end_slot"], row["start_slot"] + 1, self.slots, "award")
            _whole(row["amount_micros"], 0, None, "award")
            if row["demand_id"] not in self.demands or row["bid_id"] not in self.bids:
                _refuse(f"an award of unknown lines {row['demand_id']} and {row['bid_id']}")
        for row in self.reasons:
            _whole(row["unfilled_unit_hours"], 1, None, row["line_id"])
            if row["line_id"] not in {"demand": self.demands, "bid": self.bids}[row["side"]]:
                _refuse(f"a reason for an unknown line {row['line_id']}")
        if [row["signature"] for row in self.price_rows] != sorted(set(self.signature_of.values())):
            _refuse("the price table does not name every signature once")
        for row in self.price_rows:
            for name in ("price_micros", "dual_micros", "best_limit_micros", "best_ask_micros"):
                if len(row[name]) != self.slots:
                    _refuse(f"the price table of {row['signature']} does not cover every slot")
                for value in row[name]:
                    if value is not None or name == "dual_micros":
                        _whole(value, 0, None, row["signature"])
        counts = {"demands": len(self.demand_rows), "bids": len(self.bid_rows), "awards": len(self.awards),
                  "reasons": len(self.reasons)}
        if self.manifest["counts"] != counts:
            _refuse("the manifest counts other numbers of lines")
        return f"{len(self.awards)} awards, {len(self.reasons)} reasons"

    def check_input_hash(self) -> str:
        digests = {f"{name}.jsonl": hashlib.sha256(self.files[f"{name}.jsonl"]).hexdigest()
                   for name in ("demands", "bids", "latency")}
        found = hashlib.sha256(_canonical({"slots": self.slots, **digests})).hexdigest()
        if found != self.manifest["input_hash"]:
            _refuse("the sealed lines do not give the input hash")
        return found

    @cached_property
    def demands(self) -> dict[str, Row]:
        return {row["id"]: row for row in self.demand_rows}

    @cached_property
    def bids(self) -> dict[str, Row]:
        return {row["id"]: row for row in self.bid_rows}

    @cached_property
    def ask(self) -> dict[str, int]:
        """The quality-adjusted ask of each bid."""
        asks = {}
        for row in self.bid_rows:
            exact, step = row["price_ask_micros"] * 10_000, row["quality_bps"] * TICK
            asks[row["id"]] = (exact + step - 1) // step * TICK
        return asks

    # -- eligibility ------------------------------------------------------------------------------------------------

    @cached_property
    def signature_of(self) -> dict[str, str]:
        """The signature of each bid: the head of the hash of its attributes, with its parent where a demand has it."""
        buyers = {row["parent"] for row in self.demand_rows}
        return {
            row["id"]: hashlib.sha256(_canonical({
                "attributes": row["attributes"], "parent": row["parent"] if row["parent"] in buyers else None,
            })).hexdigest()[:16]
            for row in self.bid_rows
        }

    @cached_property
    def judged(self) -> dict[str, tuple[frozenset[str], str | None]]:
        """For each demand the signatures that pass its rules; where none does, the first rule that left none."""
        latency = {(row["vantage"], row["site"]): row["latency_ms"] for row in self.latency_rows}
        example = {self.signature_of[row["id"]]: row for row in self.bid_rows}
        known: dict[bytes, tuple[frozenset[str], str | None]] = {}
        result = {}
        for row in self.demand_rows:
            is_long = row["end_slot"] - row["start_slot"] > PROBATION_SLOTS
            key = _canonical([row["requirement"], is_long, row["parent"]])
            if key not in known:
                furthest = {name: _first_broken_rule(row, bid, latency) for name, bid in example.items()}
                passed = frozenset(name for name, broken in furthest.items() if broken is None)
                # The rule that left none is the last of the rules at which the bids dropped out.
                last = max((RULES.index(broken) for broken in furthest.values() if broken), default=0)
                known[key] = passed, None if passed else RULES[last]
            result[row["id"]] = known[key]
        return result

    def check_masks(self) -> str:
        bids_of: dict[str, list[str]] = defaultdict(list)
        demands_of: dict[frozenset[str], list[str]] = defaultdict(list)
        for bid, signature in self.signature_of.items():
            bids_of[signature].append(bid)
        for demand, (accepts, _) in self.judged.items():
            demands_of[accepts].append(demand)
        signatures = [row for row in self.mask_rows if "signature" in row]
        stated = {row["signature"]: row for row in signatures}
        if len(stated) != len(signatures) or {name: row["bids"] for name, row in stated.items()} != bids_of:
            _refuse("the signature table differs from the bids")
        for name, row in stated.items():
            facts = {"attributes": row["attributes"], "parent": row["parent"]}
            if hashlib.sha256(_canonical(facts)).hexdigest()[:16] != name:
                _refuse(f"the signature {name} is not the hash of its attributes")
        demands_of.pop(frozenset(), None)
        masks = [row for row in self.mask_rows if "signature" not in row]
        if {frozenset(row["accepts"]): row["demands"] for row in masks} != demands_of or len(masks) != len(demands_of):
            wrong = [row["demands"] for row in masks if demands_of.get(frozenset(row["accepts"])) != row["demands"]]
            _refuse(f"the mask table differs from the requirements: {wrong[:1]}")
        return f"{len(stated)} signatures, {len(masks)} masks"

    def is_eligible(self, award: Row) -> bool:
        return self.signature_of[award["bid_id"]] in self.judged[award["demand_id"]][0]

    def check_rules(self) -> str:
        for row in self.awards:
            if not self.is_eligible(row):
                _refuse(f"{row['bid_id']} may not serve {row['demand_id']}")
        return "every award keeps every rule"

    # -- the allocation ---------------------------------------------------------------------------------------------

    @cached_property
    def got(self) -> Counter[tuple[str, int]]:
        return self._units("demand_id")

    @cached_property
    def gave(self) -> Counter[tuple[str, int]]:
        return self._units("bid_id")

    def _units(self, side: str) -> Counter[tuple[str, int]]:
        units: Counter[tuple[str, int]] = Counter()
        for row in self.awards:
            for t in range(row["start_slot"], row["end_slot"]):
                units[row[side], t] += row["units"]
        return units

    @cached_property
    def unfilled_demands(self) -> dict[tuple[str, str], int]:
        return {("demand", k): n for k, n in _unfilled(self.demands, self.got).items() if n}

    @cached_property
    def unfilled_bids(self) -> dict[tuple[str, str], int]:
        return {("bid", k): n for k, n in _unfilled(self.bids, self.gave).items() if n}

    def check_slots(self) -> str:
        for row in self.awards:
            for line in (self.demands[row["demand_id"]], self.bids[row["bid_id"]]):
                if row["start_slot"] < line["start_slot"] or row["end_slot"] > line["end_slot"]:
                    _refuse(f"an award of {row['demand_id']} leaves the slots of {line['id']}")
        return "every award lies inside both its lines"

    def check_quantities(self) -> str:
        for units, lines in ((self.got, self.demands), (self.gave, self.bids)):
            for (name, t), n in units.items():
                if n > lines[name]["quantity_units"]:
                    _refuse(f"{name} has {n} units in slot {t}, more than its quantity")
        return "no line above its quantity"

    def check_windows(self) -> str:
        for name, row in self.demands.items():
            if row["kind"] == "window" and len({self.got[name, t] for t in _range(row)}) > 1:
                _refuse(f"the window {name} differs between its slots")
        return "every window is equal in all its slots"

    def check_balance(self) -> str:
        """Per signature and slot what was sold was on offer; per line awarded and unfilled make the whole."""
        sold: Counter[tuple[str, int]] = Counter()
        offered: Counter[tuple[str, int]] = Counter()
        for row in self.awards:
            for t in range(row["start_slot"], row["end_slot"]):
                sold[self.signature_of[row["bid_id"]], t] += row["units"]
        for row in self.bid_rows:
            for t in _range(row):
                offered[self.signature_of[row["id"]], t] += row["quantity_units"]
        for cell, units in sold.items():
            if units > offered[cell]:
                _refuse(f"{cell} sells {units} of {offered[cell]} units")
        stated: Counter[tuple[str, str]] = Counter()
        for row in self.reasons:
            stated[row["side"], row["line_id"]] += row["unfilled_unit_hours"]
        missing = {**self.unfilled_demands, **self.unfilled_bids}
        for key in missing.keys() | stated.keys():
            if missing.get(key, 0) != stated[key]:
                _refuse(f"{key[1]} misses {missing.get(key, 0)} unit-hours, {stated[key]} are stated")
        return f"{sum(sold.values())} unit-hours"

    # -- prices and money -------------------------------------------------------------------------------------------

    @cached_property
    def price(self) -> Grid:
        return {row["signature"]: row["price_micros"] for row in self.price_rows}

    @cached_property
    def dual(self) -> dict[str, list[int]]:
        return {row["signature"]: row["dual_micros"] for row in self.price_rows}

    def check_prices(self) -> str:
        """A price exactly where something traded, on the tick and equal to the dual; true indicative columns."""
        traded = {(self.signature_of[row["bid_id"]], t) for row in self.awards
                  for t in range(row["start_slot"], row["end_slot"])}
        for row in self.price_rows:
            name = row["signature"]
            for t in range(self.slots):
                price = row["price_micros"][t]
                if (price is not None) != ((name, t) in traded):
                    _refuse(f"{name} slot {t}: a price without a trade, or a trade without a price")
                if price is not None and (price != row["dual_micros"][t] or price % TICK):
                    _refuse(f"{name} slot {t}: the price is off the tick or not the dual")
                limit = self.offers[name][t] if price is None else None
                ask = self.lowest_ask[name][t] if price is None else None
                if (row["best_limit_micros"][t], row["best_ask_micros"][t]) != (limit, ask):
                    _refuse(f"{name} slot {t}: the indicative limit or ask is not the best one")
        return f"{len(traded)} cells with a price"

    def check_asks(self) -> str:
        for row, t, price in self._priced_hours():
            if price < self.ask[row["bid_id"]]:
                _refuse(f"{row['bid_id']} is paid {price} in slot {t}, less than its adjusted ask")
        return "no seller is paid less than its ask"

    def check_limits(self) -> str:
        paid: Counter[str] = Counter()
        for row, t, price in self._priced_hours():
            line = self.demands[row["demand_id"]]
            paid[line["id"]] += price * row["units"]
            if line["kind"] == "divisible" and price > line["price_limit_micros"]:
                _refuse(f"{line['id']} pays {price} in slot {t}, more than its limit")
        hours: Counter[str] = Counter()
        for (name, _), units in self.got.items():
            hours[name] += units
        for name, amount in paid.items():
            if amount > hours[name] * self.demands[name]["price_limit_micros"]:
                _refuse(f"{name} pays {amount} in all, more than its limit")
        return "no buyer pays more than its limit"

    def _priced_hours(self) -> Iterator[tuple[Row, int, int]]:
        for row in self.awards:
            for t in range(row["start_slot"], row["end_slot"]):
                yield row, t, self._price(row, t)

    def _price(self, award: Row, t: int) -> int:
        price = self.price[self.signature_of[award["bid_id"]]][t]
        return price if price is not None else _refuse(f"{award['bid_id']} traded in slot {t} without a price")

    def check_amounts(self) -> str:
        total = 0
        for row in self.awards:
            due = row["units"] * sum(self._price(row, t) for t in range(row["start_slot"], row["end_slot"]))
            if row["amount_micros"] != due:
                _refuse(f"{row['demand_id']} pays {row['bid_id']} {row['amount_micros']}, the price table says {due}")
            total += due
        if self.manifest["paid_micros"] != total:
            _refuse(f"the awards pay {total}, the manifest says {self.manifest['paid_micros']}")
        return f"{total} micro-USD"

    @cached_property
    def welfare(self) -> int:
        return sum(
            row["units"] * (row["end_slot"] - row["start_slot"])
            * (self.demands[row["demand_id"]]["price_limit_micros"] - self.ask[row["bid_id"]])
            for row in self.awards
        )

    @cached_property
    def bound(self) -> int:
        total = 0
        for row in self.demand_rows:
            accepts = self.judged[row["id"]][0]
            if not accepts:
                continue
            limit = row["price_limit_micros"]
            surplus = [limit - min(self.dual[a][t] for a in accepts) for t in _range(row)]
            kept = sum(x for x in surplus if x > 0) if row["kind"] == "divisible" else max(0, sum(surplus))
            total += row["quantity_units"] * kept
        for row in self.bid_rows:
            dual, ask = self.dual[self.signature_of[row["id"]]], self.ask[row["id"]]
            total += row["quantity_units"] * sum(dual[t] - ask for t in _range(row) if dual[t] > ask)
        return total

    def check_welfare(self) -> str:
        if self.welfare != self.manifest["welfare_micros"]:
            _refuse(f"the awards are worth {self.welfare}, the manifest says {self.manifest['welfare_micros']}")
        return f"{self.welfare} micro-USD"

    def check_bound(self) -> str:
        if self.bound != self.manifest["bound_micros"]:
            _refuse(f"the duals bound welfare by {self.bound}, the manifest says {self.manifest['bound_micros']}")
        return f"{self.bound} micro-USD"

    def check_gap(self) -> str:
        """At most a billionth of the welfare. Whatever the manifest says it allowed itself is not read.

        A wider gap would leave room for a winner that was left out: the duals no longer prove that it was not.
        """
        gap = self.bound - self.welfare
        if gap != self.manifest["gap_micros"] or gap < 0:
            _refuse(f"the gap is {gap}, stated {self.manifest['gap_micros']}")
        if gap * GAP_SHARE > self.welfare:
            _refuse(f"the gap is {gap}, more than a billionth of the welfare: this result is not proven optimal")
        return f"{gap} micro-USD"

    # -- reasons ----------------------------------------------------------------------------------------------------

    @cached_property
    def lowest_ask(self) -> Grid:
        lowest: Grid = {name: [None] * self.slots for name in self.price}
        for row in self.bid_rows:
            cells, ask = lowest[self.signature_of[row["id"]]], self.ask[row["id"]]
            for t in _range(row):
                known = cells[t]
                cells[t] = ask if known is None or ask < known else known
        return lowest

    @cached_property
    def asked(self) -> dict[frozenset[str], list[int]]:
        """What serving a mask costs in each slot: the least of prices and, without a trade, of asks."""
        result = {}
        for accepts in {accepts for accepts, _ in self.judged.values()}:
            row = []
            for t in range(self.slots):
                here = [self.price[a][t] if self.price[a][t] is not None else self.lowest_ask[a][t] for a in accepts]
                row.append(min((x for x in here if x is not None), default=NO_CAPACITY))
            result[accepts] = row
        return result

    @cached_property
    def offers(self) -> Grid:
        """What is on offer to a signature: its price; without a trade the most that an accepting demand would pay."""
        best: Grid = {name: [None] * self.slots for name in self.price}
        for row in self.demand_rows:
            accepts = self.judged[row["id"]][0]
            asked, whole = self.asked[accepts], row["price_limit_micros"] * len(_range(row))
            everything = sum(asked[t] for t in _range(row))
            for t in _range(row):
                if self.got[row["id"], t] == row["quantity_units"]:
                    most = asked[t]
                elif row["kind"] == "divisible":
                    most = row["price_limit_micros"]
                else:
                    most = max(0, whole - everything + asked[t])
                for a in accepts:
                    known = best[a][t]
                    best[a][t] = most if known is None or most > known else known
        for name, prices in self.price.items():
            best[name] = [offer if price is None else price for offer, price in zip(best[name], prices, strict=True)]
        return best

    def check_reasons_complete(self) -> str:
        stated = Counter((row["side"], row["line_id"]) for row in self.reasons)
        for key in self.unfilled_demands.keys() | self.unfilled_bids.keys():
            if stated[key] != 1:
                _refuse(f"{key[1]} has {stated[key]} reasons")
        for key in stated:
            if key not in self.unfilled_demands and key not in self.unfilled_bids:
                _refuse(f"{key[1]} was filled, and a reason is stated")
        return f"{len(stated)} losers, one reason each"

    def check_reasons_true(self) -> str:
        for row in self.reasons:
            side, name = row["side"], row["line_id"]
            found = self._why_demand(self.demands[name]) if side == "demand" else self._why_bid(self.bids[name])
            if found is None or (row["code"], row["detail"]) != found:
                _refuse(f"{name} is told {row['code']} {row['detail']}, true is {found}")
        return "every reason re-derived"

    def _why_demand(self, row: Row) -> tuple[str, Row] | None:
        accepts, rule = self.judged[row["id"]]
        if not accepts:
            return "no_compliant_capacity", {"rule": rule}
        asked, limit = self.asked[accepts], row["price_limit_micros"]
        if row["kind"] == "window":
            empty = [t for t in _range(row) if asked[t] == NO_CAPACITY]
            if empty:
                return "no_capacity_in_slots", {"slot": empty[0]}
            hours = len(_range(row))
            short = sum(asked[t] for t in _range(row)) - limit * hours
            if short > 0:
                return "priced_out", {"short_by_micros": (short + hours - 1) // hours}
            return _marginal([short])
        missing = {t: n for t in _range(row) if (n := row["quantity_units"] - self.got[row["id"], t]) > 0}
        return _why(missing, {t: None if asked[t] == NO_CAPACITY else asked[t] - limit for t in missing},
                    "no_capacity_in_slots")

    def _why_bid(self, row: Row) -> tuple[str, Row] | None:
        offers, ask = self.offers[self.signature_of[row["id"]]], self.ask[row["id"]]
        missing = {t: n for t in _range(row) if (n := row["quantity_units"] - self.gave[row["id"], t]) > 0}
        short: dict[int, int | None] = {}
        for t in missing:
            offer = offers[t]
            short[t] = None if offer is None else ask - offer
        return _why(missing, short, "no_matching_demand")


RULES = ("class", "country", "control", "tier", "latency", "sla", "standing", "own_parent")


def _first_broken_rule(demand: Row, bid: Row, latency: Mapping[tuple[str, str], int]) -> str | None:
    need, has = demand["requirement"], bid["attributes"]
    if has["resource_class"] not in need["accepted_classes"]:
        return "class"
    if need["countries"] is not None and has["country"] not in need["countries"]:
        return "country"
    control = {has["parent_country"], has["operator_country"], has["keys_country"]}
    if need["control_countries"] is not None and not control <= set(need["control_countries"]):
        return "control"
    if has["tier"] < need["tier_min"]:
        return "tier"
    if need["latency_ms_max"] is not None:
        measured = latency.get((need["vantage"], has["site"]))
        if measured is None or measured > need["latency_ms_max"]:
            return "latency"
    if has["sla_bps"] < need["sla_bps_min"]:
        return "sla"
    is_long = demand["end_slot"] - demand["start_slot"] > PROBATION_SLOTS
    if has["standing"] != "PROVEN" and (is_long or has["standing"] != "PROBATION"):
        return "standing"
    return "own_parent" if demand["parent"] == bid["parent"] else None


def _why(missing: dict[int, int], short: dict[int, int | None], nothing: str) -> tuple[str, Row] | None:
    """The code with the most missing units over the slots; `short` is None where there is no opposite side at all."""
    units: Counter[str] = Counter()
    for t, n in missing.items():
        gap = short[t]
        units[nothing if gap is None else "priced_out" if gap > 0 else "marginal"] += n
    if not units:
        return None
    code = max((nothing, "priced_out", "marginal"), key=lambda code: units[code])
    if code == nothing:
        return code, {"slot": min(t for t in missing if short[t] is None)}
    shortfalls = [(gap, t) for t in missing if (gap := short[t]) is not None]
    if code == "marginal":
        return _marginal([gap for gap, _ in shortfalls if gap <= 0])
    least, slot = min((gap, t) for gap, t in shortfalls if gap > 0)
    return code, {"short_by_micros": least, "slot": slot}


def _marginal(shortfalls: list[int]) -> tuple[str, Row]:
    return "marginal", {"cause": "rounding" if min(shortfalls) < 0 else "at_the_price"}


def _unfilled(lines: Mapping[str, Row], units: Mapping[tuple[str, int], int]) -> dict[str, int]:
    return {
        name: sum(row["quantity_units"] - units.get((name, t), 0) for t in _range(row)) for name, row in lines.items()
    }


def _range(row: Row) -> range:
    return range(row["start_slot"], row["end_slot"])


def _whole(value: object, low: int, high: int | None, where: str) -> None:
    if type(value) is not int or value < low or (high is not None and value > high):
        _refuse(f"{where}: {value!r} is not a whole number from {low} to {high}")


def main(arguments: list[str]) -> int:
    if len(arguments) != 1 or not Path(arguments[0]).is_dir():
        print("usage: verify.py DIRECTORY", file=sys.stderr)
        return 2
    files = {path.name: path.read_bytes() for path in Path(arguments[0]).iterdir() if path.is_file()}
    report = verify_bundle(files)
    for check in report.checks:
        print(f"{'ok ' if check.ok else 'BAD'} {check.name}: {check.detail}")
    print(f"{report.awards} awards, {report.losers} losers, {report.losers_without_reason} without a reason, "
          f"{report.noncompliant_awards} noncompliant awards; welfare {report.welfare_micros}, "
          f"bound {report.bound_micros}, gap {report.gap_micros} micro-USD")
    return 0 if report.ok else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
