"""The public bundle of a clearing: everything that an outsider needs to check it, and nothing else.

`manifest.json` names the rules, the totals and the SHA-256 of each other file; those hold one canonical JSON object per
line: sorted keys, no spaces, UTF-8, whole numbers below 2^53 so that any reader keeps them exact. Fields at their
default are left out of demands and bids. `verify.py` checks a bundle alone.
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping

from pricing import errors
from pricing.book import (
    BLOCK,
    PRICE_MAX_MICROS,
    PROBATION_SLOTS_MAX,
    QUANTITY_MAX_UNITS,
    TICK_MICROS,
    Book,
    Flags,
    Ints,
)
from pricing.clearing import RULE_VERSION, Outcome
from pricing.lines import KINDS, TEXT_MAX, attributes_facts, canonical_json, name_of, requirement_facts

FORMAT = "grove-clearing"
INTEGER_LIMIT = 1 << 53


def public_bundle(outcome: Outcome, *, window: str) -> dict[str, bytes]:
    """The files by name. Lines appear under the ids that the book holds.

    Raises `BookOverflow` where a total does not fit 2^53, `BadText` where `window` is no printable name.
    """
    if not 0 < len(window) <= TEXT_MAX or not window.isprintable():
        raise errors.BadText(f"The name of a window is 1 to {TEXT_MAX} printable characters.", field="window")
    book, allocation, proof = outcome.book, outcome.allocation, outcome.certificate
    totals = {**vars(proof), "paid_micros": sum(outcome.award_columns.amount_micros.tolist())}
    if max(totals.values()) >= INTEGER_LIMIT:
        raise errors.BookOverflow("A total does not fit 2^53.", window=window, **totals)
    files = {
        **sealed_files(book),
        "masks.jsonl": json_lines(_mask_rows(outcome)),
        "prices.jsonl": json_lines(_price_rows(outcome)),
        "awards.jsonl": _award_lines(outcome),
        "reasons.jsonl": _reason_lines(outcome),
    }
    manifest = {
        "format": FORMAT, "rule_version": RULE_VERSION, "window": window, "slots": book.slots,
        "input_hash": outcome.input_hash.hex(), **totals, "rules": dict(vars(book.rules)),
        "home_zones": dict(book.home_zones),
        "parameters": {
            "tick_micros": TICK_MICROS, "price_max_micros": PRICE_MAX_MICROS,
            "quantity_max_units": QUANTITY_MAX_UNITS, "probation_slots_max": PROBATION_SLOTS_MAX,
        },
        "caps": [{**vars(cap), "parent": book.parents[cap.parent], "product": list(cap.product)}
                 for cap in allocation.caps],
        "caps_not_applicable": [list(product) for product in allocation.caps_not_applicable],
        "sigma": list(allocation.sigma),
        "counts": {
            "demands": len(book.demands), "bids": len(book.bids), "awards": len(outcome.award_columns.demand),
            "reasons": len(outcome.reason_columns.line),
        },
        "files": {name: hashlib.sha256(text).hexdigest() for name, text in sorted(files.items())},
    }
    return {"manifest.json": canonical_json(manifest) + b"\n", **files}


def bundle_hash(files: Mapping[str, bytes]) -> bytes:
    """SHA-256 of the manifest, which names the hash of every other file: 32 bytes, anchored on chain."""
    return hashlib.sha256(files["manifest.json"]).digest()


def json_lines(rows: Iterable[Mapping[str, object]]) -> bytes:
    return b"".join(canonical_json(row) + b"\n" for row in rows)


def sealed_files(book: Book) -> dict[str, bytes]:
    """The lines and tables of the sealed book."""
    requirements = [requirement_facts(rule) for rule in book.requirements]
    attributes = [attributes_facts(known) for known in book.attributes]
    pairs = [{"vantage": v, "site": s, "latency_ms": ms} for (v, s), ms in book.latency_ms.items()]
    return {
        "requirements.jsonl": json_lines({"requirement": name_of(facts), **facts} for facts in requirements),
        "attributes.jsonl": json_lines({"attributes": name_of(facts), **facts} for facts in attributes),
        "latency.jsonl": json_lines(pairs),
        "demands.jsonl": "".join(_demand_lines(book, [name_of(facts) for facts in requirements])).encode(),
        "bids.jsonl": "".join(_bid_lines(book, [name_of(facts) for facts in attributes])).encode(),
    }


# Ids hold nothing that JSON escapes (`lines.ID`), so the long files are written without a JSON library.


def _demand_lines(book: Book, requirements: list[str]) -> Iterator[str]:
    d, tables = book.demands, book.tables
    choice = _optional("choice", d.choice, tables.choices)
    curve = _optional("curve", d.curve, tables.curves)
    minimum = [f'"minimum_units":{n},' if n and kind != BLOCK else "" for n, kind in zip(
        d.minimum.tolist(), d.kind.tolist(), strict=True)]
    columns = (d.rank, d.end, d.kind, d.parent, d.price, d.quantity, d.requirement, d.start)
    for name, chosen, step, foundation, one_site, least, rank, end, kind, parent, price, units, need, start in zip(
        d.ids, choice, curve, _flag("is_foundation", d.is_foundation), _flag("is_one_site", d.is_one_site), minimum,
        *(column.tolist() for column in columns), strict=True,
    ):
        yield (f'{{"accepted_rank":{rank},{chosen}{step}"end_slot":{end},"id":"{name}",{foundation}{one_site}'
               f'"kind":"{KINDS[kind]}",{least}"parent":"{tables.parents[parent]}","price_limit_micros":{price},'
               f'"quantity_units":{units},"requirement":"{requirements[need]}","start_slot":{start}}}\n')


def _bid_lines(book: Book, attributes: list[str]) -> Iterator[str]:
    b, tables = book.bids, book.tables
    curve = _optional("curve", b.curve, tables.curves)
    minimum = [f'"minimum_units":{n},' if n else "" for n in b.minimum.tolist()]
    columns = (b.rank, b.attributes, b.end, b.parent, b.price, b.quality, b.quantity, b.start)
    for name, step, least, rank, known, end, parent, price, quality, units, start in zip(
        b.ids, curve, minimum, *(column.tolist() for column in columns), strict=True,
    ):
        yield (f'{{"accepted_rank":{rank},"attributes":"{attributes[known]}",{step}"end_slot":{end},"id":"{name}",'
               f'{least}"parent":"{tables.parents[parent]}","price_ask_micros":{price},"quality_bps":{quality},'
               f'"quantity_units":{units},"start_slot":{start}}}\n')


def _optional(name: str, places: Ints, table: tuple[str, ...]) -> list[str]:
    return [f'"{name}":"{table[place]}",' if place >= 0 else "" for place in places.tolist()]


def _flag(name: str, flags: Flags) -> list[str]:
    return [f'"{name}":true,' if flag else "" for flag in flags.tolist()]


def _award_lines(outcome: Outcome) -> bytes:
    columns, demands, bids = outcome.award_columns, outcome.book.demands.ids, outcome.book.bids.ids
    return "".join(
        f'{{"amount_micros":{amount},"bid_id":"{bids[j]}","demand_id":"{demands[i]}","end_slot":{end},'
        f'"start_slot":{start},"units":{units}}}\n'
        for i, j, start, end, units, amount in zip(
            *(getattr(columns, name).tolist() for name in ("demand", "bid", "start", "end", "units", "amount_micros")),
            strict=True)
    ).encode()


def _reason_lines(outcome: Outcome) -> bytes:
    return "".join(
        f'{{"code":"{row.code}","detail":{canonical_json(row.detail).decode()},"line_id":"{row.line_id}",'
        f'"side":"{row.side}","unfilled_unit_hours":{row.unfilled_unit_hours}}}\n'
        for row in outcome.reasons
    ).encode()


def _mask_rows(outcome: Outcome) -> Iterator[dict[str, object]]:
    """First every signature, then every distinct need with what it accepts."""
    book, eligibility = outcome.book, outcome.eligibility
    names = [signature.name for signature in eligibility.signatures]
    for signature in eligibility.signatures:
        yield {"signature": signature.name, "attributes": name_of(attributes_facts(signature.attributes)),
               "parent": signature.parent}
    for need, mask, rule in zip(eligibility.needs, eligibility.mask_of_need.tolist(), eligibility.emptied_by_need,
                                strict=True):
        yield {
            "requirement": name_of(requirement_facts(book.requirements[need.requirement])), "is_long": need.is_long,
            "parent": need.parent, "emptied_by": rule,
            "accepts": sorted(names[a] for a in eligibility.masks[mask]) if mask >= 0 else [],
        }


def _price_rows(outcome: Outcome) -> Iterator[dict[str, object]]:
    """One row per signature in the order of their names, each quantity as an array over the slots."""
    allocation, quotes, parts = outcome.allocation, outcome.quotes, outcome.components
    signatures, traded = outcome.eligibility.signatures, outcome.is_traded
    for a in sorted(range(len(signatures)), key=lambda a: signatures[a].name):
        row: dict[str, object] = {
            "signature": signatures[a].name, "dual_micros": allocation.lam_micros[a].tolist(),
            "price_micros": _where(traded[a], allocation.lam_micros[a]),
            "relaxed_micros": None if allocation.relaxed_micros is None else allocation.relaxed_micros[a].tolist(),
            "best_limit_micros": _where(~traded[a] & (quotes.bid_up_to[a] >= 0), quotes.bid_up_to[a]),
            "best_ask_micros": _where(~traded[a] & (quotes.lowest_ask[a] >= 0), quotes.lowest_ask[a]),
        }
        for name in ("base_micros", "scarcity_micros", "locality_micros", "tier_micros", "sla_micros"):
            row[name] = _where(traded[a], getattr(parts, name)[a])
        yield row


def _where(shown: Flags, values: Ints) -> list[int | None]:
    return [value if flag else None for flag, value in zip(shown.tolist(), values.tolist(), strict=True)]

