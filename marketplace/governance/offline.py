"""Check an exported audit trail with nothing but this file and Python: `python offline.py TRAIL.jsonl`.

The first line of an export says how many lines follow and the hash of the last one. Every further line carries its own
hash, made of the hash before it and its own words, so one altered, missing or added line is found and named.
"""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path
from typing import Any

FORMAT = "grove-audit"
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


def main(arguments: list[str]) -> int:
    if len(arguments) != 1:
        print("usage: offline.py TRAIL.jsonl", file=sys.stderr)
        return 2
    path = Path(arguments[0])
    if not path.is_file():
        print(f"there is no file {path}", file=sys.stderr)
        return 2
    fault = first_fault(path)
    print(f"BROKEN: {fault}" if fault else "the trail is whole: every line follows from the one before it")
    return 1 if fault else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
