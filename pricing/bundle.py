"""The public bundle of a clearing: everything that an outsider needs to check it, and nothing else.

`manifest.json` names the rules, the totals and the SHA-256 of each other file; those hold one canonical JSON object per
line. Integers only, all below 2^53, so that any JSON reader keeps them exact. `verify.py` checks a bundle alone.
"""

import hashlib
from collections import defaultdict
from collections.abc import Iterator, Mapping

from pricing import errors
from pricing.book import (
    PRICE_MAX_MICROS,
    PROBATION_SLOTS_MAX,
    QUANTITY_MAX_UNITS,
    TICK_MICROS,
    Book,
    canonical_json,
    json_lines,
    sealed_files,
)
from pricing.clearing import RULE_VERSION, Outcome, PriceRow
from pricing.eligibility import match_lines

FORMAT = "grove-clearing"
INTEGER_LIMIT = 1 << 53


def public_bundle(book: Book, outcome: Outcome, *, window: str) -> dict[str, bytes]:
    """The files by name. Lines appear under the ids that the book holds.

    Raises `BundleMismatch` for an outcome of another book, `BookOverflow` where a total does not fit 2^53.
    """
    if outcome.input_hash != book.input_hash:
        raise errors.BundleMismatch("The outcome belongs to another book.", window=window)
    totals = {
        "welfare_micros": outcome.welfare_micros, "bound_micros": outcome.bound_micros,
        "gap_micros": outcome.gap_micros, "gap_allowed_micros": outcome.gap_allowed_micros,
        "paid_micros": sum(award.amount_micros for award in outcome.awards),
    }
    if max(totals.values()) >= INTEGER_LIMIT:
        raise errors.BookOverflow("A total does not fit 2^53.", window=window, **totals)
    files = {
        **sealed_files(book),
        "masks.jsonl": json_lines(_mask_rows(book)),
        "prices.jsonl": json_lines(_price_rows(outcome)),
        "awards.jsonl": json_lines(vars(award) for award in outcome.awards),
        "reasons.jsonl": json_lines(vars(reason) for reason in outcome.reasons),
    }
    manifest = {
        "format": FORMAT, "rule_version": RULE_VERSION, "window": window, "slots": book.slots,
        "input_hash": outcome.input_hash.hex(), **totals,
        "parameters": {
            "tick_micros": TICK_MICROS, "price_max_micros": PRICE_MAX_MICROS,
            "quantity_max_units": QUANTITY_MAX_UNITS, "probation_slots_max": PROBATION_SLOTS_MAX,
        },
        "counts": {
            "demands": len(book.demands), "bids": len(book.bids), "awards": len(outcome.awards),
            "reasons": len(outcome.reasons),
        },
        "files": {name: hashlib.sha256(text).hexdigest() for name, text in sorted(files.items())},
    }
    return {"manifest.json": canonical_json(manifest) + b"\n", **files}


def bundle_hash(files: Mapping[str, bytes]) -> bytes:
    """SHA-256 of the manifest, which names the hash of every other file: 32 bytes, anchored on chain."""
    return hashlib.sha256(files["manifest.json"]).digest()


def _mask_rows(book: Book) -> Iterator[dict[str, object]]:
    """First every signature with its bids, then every mask with its demands."""
    eligibility = match_lines(book)
    bids_of: dict[int, list[str]] = defaultdict(list)
    demands_of: dict[int, list[str]] = defaultdict(list)
    for bid, a in zip(book.bids, eligibility.signature_of_bid, strict=True):
        bids_of[a].append(bid.id)
    for demand, s in zip(book.demands, eligibility.mask_of_demand, strict=True):
        demands_of[s].append(demand.id)
    for a, signature in enumerate(eligibility.signatures):
        yield {"signature": signature.name, **signature.facts(), "bids": bids_of[a]}
    for s, mask in enumerate(eligibility.masks):
        yield {"accepts": sorted(eligibility.signatures[a].name for a in mask), "demands": demands_of[s]}


def _price_rows(outcome: Outcome) -> Iterator[dict[str, object]]:
    """One row per signature, each quantity as an array over the slots."""
    rows: dict[str, list[PriceRow]] = defaultdict(list)
    for row in outcome.prices:
        rows[row.signature].append(row)
    for signature in sorted(rows):
        cells = rows[signature]
        yield {
            "signature": signature,
            "price_micros": [cell.price_micros for cell in cells],
            "dual_micros": [cell.dual_micros for cell in cells],
            "best_limit_micros": [cell.best_limit_micros for cell in cells],
            "best_ask_micros": [cell.best_ask_micros for cell in cells],
        }
