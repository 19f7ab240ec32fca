"""Check an exported audit trail with nothing but this file and Python: `python offline.py TRAIL.jsonl [RECEIPT.json]`.

The first line of an export says how many lines follow and the hash of the last one. Every further line carries its own
hash, made of the hash before it and its own words, so one altered, missing or added line is found and named.

A bidder's receipt is checked against the trail: the line it names is there, of this bid and window, with the commitment
that the text of the receipt hashes to.
"""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path
from typing import Any

FORMAT = "grove-audit"
RECEIPT_FORMAT = "grove-bid-receipt"
GENESIS = bytes(32).hex()
WORDS = ("no", "at", "actor", "action", "subject", "reason", "facts")


def hash_of(line: dict[str, Any]) -> str:
    """SHA-256 over the previous hash and the canonical JSON of the line, in hex."""
    body = json.dumps([line[word] for word in WORDS], sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(bytes.fromhex(line["prev_hash"]) + body.encode()).hexdigest()


def first_fault(path: Path) -> str | None:
    """What is wrong with an export, naming the line; None when it is whole."""
    try:
        rows = [json.loads(row) for row in path.read_text(encoding="utf-8").splitlines()]
    except (UnicodeDecodeError, ValueError) as problem:
        return f"it cannot be read as lines of JSON: {problem}"
    if not rows or not isinstance(rows[0], dict) or rows[0].get("format") != FORMAT:
        return "its first line is no header of an audit export"
    header, lines, before = rows[0], rows[1:], GENESIS
    for number, line in enumerate(lines, 1):
        try:
            is_good = line["no"] == number and line["prev_hash"] == before and hash_of(line) == line["hash"]
        except (KeyError, TypeError, ValueError):
            is_good = False
        if not is_good:
            return f"line {number} is not the one that was written"
        before = line["hash"]
    if header.get("lines") != len(lines) or header.get("head") != before:
        return f"the header speaks of {header.get('lines')} lines that end in {header.get('head')}"
    return None


def receipt_fault(trail: Path, receipt: Path) -> str | None:
    """What is wrong with a bidder's receipt beside a whole trail; None when the trail bears it out."""
    try:
        paper = json.loads(receipt.read_text(encoding="utf-8"))
        named = {word: paper[word] for word in ("bid", "window", "commitment", "line_hash", "text")}
    except (UnicodeDecodeError, ValueError, KeyError, TypeError) as problem:
        return f"it cannot be read as a receipt: {problem}"
    if paper.get("format") != RECEIPT_FORMAT:
        return "it is no receipt of a bid"
    lines = [json.loads(row) for row in trail.read_text(encoding="utf-8").splitlines()[1:]]
    line = next((each for each in lines if each["hash"] == named["line_hash"]), None)
    if line is None:
        return "the trail has no line with its hash; an export ends where the oldest open bidding began"
    told = line["facts"].get("commitment"), line["facts"].get("window"), line["subject"], line["action"]
    if told != (named["commitment"], named["window"], named["bid"], "place_bid"):
        return f"line {line['no']} is of something else"
    if named["text"] and hashlib.sha256(named["text"].encode()).hexdigest() != named["commitment"]:
        return "its text is not what was committed to"
    return None


def main(arguments: list[str]) -> int:
    if len(arguments) not in (1, 2):
        print("usage: offline.py TRAIL.jsonl [RECEIPT.json]", file=sys.stderr)
        return 2
    paths = [Path(argument) for argument in arguments]
    missing = next((path for path in paths if not path.is_file()), None)
    if missing is not None:
        print(f"there is no file {missing}", file=sys.stderr)
        return 2
    fault = first_fault(paths[0])
    if fault is None and len(paths) == 2:
        fault = receipt_fault(*paths)
    good = "the trail is whole: every line follows from the one before it"
    print(f"BROKEN: {fault}" if fault else f"{good}{', and it bears out the receipt' if len(paths) == 2 else ''}")
    return 1 if fault else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
