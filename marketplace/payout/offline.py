"""Check the proof of a payout with nothing but this file and Python: `python offline.py PROOF.json [--bundle FOLDER]`.

A proof leads from an award to the transaction that paid for it and names nobody. Followed are, each by its hashes:

    award    in the public bundle, whose manifest's hash the anchor contract keeps for the window
    readings of the lease, as the evidence of its verdict, under the root of its day that the anchor contract keeps
    line     of the lease in the books: its transfers, under roots of the books' epochs that the anchor contract keeps,
             together the whole fee, booked for the log of a settlement that names the same bundle
    payout   the transfer that emptied the account which earned it, booked for the log by which escrow paid

Each log is shown in its block: the header, and the way from its roots to the signed transaction and to the receipt.
What remains to be asked of a node of one's own is whether the blocks named at the end are the chain's.

`--opening FILE` shows that an award of the proof is one's own: the id under which it was published is the hash of a key
and of one's name and reference. The file is given to that party alone.
"""

from __future__ import annotations

import hashlib
import json
import sys
import zipfile
from collections.abc import Iterator, Mapping, Sized
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn, TypeAlias
from uuid import UUID

FORMAT, OPENING_FORMAT, VERSION = "grove-payout-proof", "grove-opening", 1
AWARDS = "awards.jsonl"
LEDGER = 1  # micro-USD
EARNED, HELD_BACK, FEE, RETURNED, CREDIT, COVERED = 301, 302, 303, 304, 305, 306
LINE_CODES = (EARNED, HELD_BACK, FEE, RETURNED, CREDIT, COVERED)
NO_TIME = -(2**63)
EVIDENCE_FROM = 2**31  # the anchor contract's numbers: below are windows, from here on days
MASK = 2**64 - 1
Rlp: TypeAlias = "bytes | list[Rlp]"

# What each part of a proof must have: nothing is left out and nothing stands there unchecked.
PROOF = ("format", "version", "chain_id", "escrow", "anchor", "node_class", "window", "manifest", "awards", "bundle",
         "evidence_days", "epochs", "settlements", "lines", "payout", "payout_transfers")  # fmt: skip
BLOCK = ("tx_hash", "log", "block_hash", "header", "place", "transaction_nodes", "receipt_nodes")
BOOKED = (*BLOCK, "log_index")
LINE = ("lease", "demand", "bid", "awards", "evidence", "evidence_path", "day", "transfers")
AWARD = ("start_slot", "end_slot", "units", "amount_micros")
MOVED = ("id", "seq", "debit", "credit", "amount_micros", "code", "origin", "link", "effective_at", "posted_at",
         "epoch", "path")  # fmt: skip
LINE_MOVED = (*MOVED, "settlement")
OPENING = ("format", "id", "parts", "key")


class Broken(Exception):
    """What a proof does not bear out, in a sentence."""


@dataclass
class Report:
    """What was followed, what is broken (empty: nothing), and the blocks that one's own node should have."""

    steps: list[str] = field(default_factory=list)
    broken: str = ""
    blocks: dict[int, str] = field(default_factory=dict)
    is_whole: bool = False
    paid_micros: int = 0


def verify(proof: Any, *, awards: bytes | None = None, opening: Any = None) -> Report:
    """Follow a proof. `awards` is awards.jsonl of the public bundle where the proof is without it. Never raises."""
    report = Report()
    try:
        _Follow(proof, awards, report).all(opening)
    except Broken as found:
        report.broken = str(found)
    except (KeyError, TypeError, ValueError, IndexError, AttributeError, OverflowError, RecursionError) as found:
        report.broken = f"it cannot be read: {type(found).__name__} {found}"
    return report


def _refuse(sentence: str) -> NoReturn:
    raise Broken(sentence)


def _need(holds: bool, sentence: str) -> None:
    if not holds:
        _refuse(sentence)


def _fields(part: Any, names: tuple[str, ...], what: str) -> Mapping[str, Any]:
    _need(isinstance(part, dict) and set(part) == set(names), f"{what} does not have exactly the fields it should")
    return part  # type: ignore[no-any-return]


def _whole(value: Any) -> int:
    _need(type(value) is int, f"{value!r} is no whole number")
    return int(value)


def _hex(value: Any) -> bytes:
    _need(isinstance(value, str) and value[:2] == "0x" and value == value.lower(), f"{value!r} is no hex text")
    return bytes.fromhex(value[2:])


@dataclass(frozen=True)
class _Log:
    """A log that was shown to stand in a block."""

    address: bytes
    topics: list[bytes]
    data: bytes
    block_hash: bytes
    block_number: int
    log_index: int  # -1: not given
    to: bytes
    calldata: bytes

    @property
    def reference(self) -> bytes:
        return self.block_hash + self.log_index.to_bytes(4, "big")

    def word(self, place: int) -> int:
        return int.from_bytes(self.data[32 * place : 32 * place + 32], "big")


class _Follow:
    """One run over one proof; each method is a step."""

    def __init__(self, proof: Any, awards: bytes | None, report: Report) -> None:
        self.proof, self.report = _fields(proof, PROOF, "the proof"), report
        _need((proof["format"], _whole(proof["version"])) == (FORMAT, VERSION), "it is no proof of a payout")
        self.chain_id = _whole(proof["chain_id"])
        self.escrow, self.anchor = _hex(proof["escrow"]), _hex(proof["anchor"])
        self.node_class, self.window = _whole(proof["node_class"]), _whole(proof["window"])
        told = proof["awards"]
        self.awards = told.encode() if isinstance(told, str) else awards
        _need(told is None or isinstance(told, str), "the awards are no text")
        _need(self.awards is not None, "the proof is without the awards: give the window's public bundle (--bundle)")
        self.settled: dict[int, _Log] = {}
        self.roots: dict[int, bytes] = {}
        self.days: dict[int, bytes] = {}
        self.used: set[tuple[str, int]] = set()
        self.sums: dict[int, dict[int, int]] = {}
        self.payable: set[int] = set()
        self.earned = 0

    def all(self, opening: Any) -> None:
        bundle_hash = self.clearing()
        self.anchored()
        self.settlements(bundle_hash)
        _need(isinstance(self.proof["lines"], list) and len(self.proof["lines"]) > 0, "it is of no lease")
        leases = [self.line(_fields(line, LINE, "a lease")) for line in self.proof["lines"]]
        _need(len(set(leases)) == len(leases), "a lease stands there twice")
        self.class_lines()
        self.paid()
        self.everything_was_needed()
        if opening is not None:
            self.opened(_fields(opening, OPENING, "the opening"))

    # -- what stands on chain --------------------------------------------------------------------------------------
    def log(self, part: Any, names: tuple[str, ...], address: bytes, event: str, what: str) -> _Log:
        told = _fields(part, names, what)
        header = _hex(told["header"])
        block_hash = keccak(header)
        _need(block_hash == _hex(told["block_hash"]), f"{what}: the header is of another block")
        parts = rlp(header)
        place = _whole(told["place"])
        _need(0 <= place < 2**32, f"{what}: no such place in a block")
        raw = in_trie(parts[4], place, [_hex(node) for node in told["transaction_nodes"]], what)
        _need(keccak(raw) == _hex(told["tx_hash"]), f"{what}: the block has another transaction there")
        tx = rlp(raw[1:])
        _need(raw[0] == 2 and int.from_bytes(tx[0], "big") == self.chain_id, f"{what}: it is of another chain")
        receipt = in_trie(parts[5], place, [_hex(node) for node in told["receipt_nodes"]], what)
        status, _, _, logs = rlp(receipt[1:] if receipt[0] < 0xC0 else receipt)
        _need(status == b"\x01", f"{what}: the transaction was refused")
        at = _whole(told["log"])
        _need(0 <= at < len(logs), f"{what}: there is no such log")
        emitter, topics, data = logs[at]
        _need(emitter == address and topics[0] == keccak(event.encode()), f"{what}: the log says something else")
        number = int.from_bytes(parts[8], "big")
        self.report.blocks[number] = "0x" + block_hash.hex()
        return _Log(emitter, topics, data, block_hash, number, _whole(told.get("log_index", -1)), tx[5], tx[7])

    def clearing(self) -> bytes:
        manifest = self.proof["manifest"]
        digest = hashlib.sha256(manifest.encode()).digest()
        kept = self.log(self.proof["bundle"], BLOCK, self.anchor, "Bundled(uint32,bytes32)", "the bundle's anchor")
        _need(int.from_bytes(kept.topics[1], "big") == self.window < EVIDENCE_FROM, "the anchor is of another window")
        _need(kept.data == digest, "the manifest is not the one that the anchor contract keeps")
        assert self.awards is not None
        named = json.loads(manifest)["files"][AWARDS]
        _need(hashlib.sha256(self.awards).hexdigest() == named, "the awards are not those that the manifest names")
        self.published = [json.loads(row) for row in self.awards.splitlines()]
        self.say(f"the clearing of window {self.window} is the one anchored: {digest.hex()}")
        return digest

    def anchored(self) -> None:
        for name, part in self.proof["epochs"].items():
            what = f"the anchor of epoch {name}"
            log = self.log(part, BLOCK, self.anchor, "Posted(uint64,bytes32,bytes32,uint64,bytes32)", what)
            _need(str(int.from_bytes(log.topics[1], "big")) == name, f"{what} is of another epoch")
            self.roots[int(name)] = log.data[:32]
        for name, part in self.proof["evidence_days"].items():
            what = f"the anchor of day {name}"
            log = self.log(part, BLOCK, self.anchor, "Bundled(uint32,bytes32)", what)
            number = int.from_bytes(log.topics[1], "big")
            _need(str(number) == name and number >= EVIDENCE_FROM, f"{what} is of another day")
            self.days[number] = log.data
        self.say(f"anchored: {_many(self.roots, 'epoch')} of the books, {_many(self.days, 'day')} of evidence")

    def settlements(self, bundle_hash: bytes) -> None:
        event = "Settled(uint64,uint64,uint64,uint64,uint64,bytes32,bytes32)"
        for name, part in self.proof["settlements"].items():
            what = f"settlement {name}"
            log = self.log(part, BOOKED, self.escrow, event, what)
            epoch = int.from_bytes(log.topics[1], "big")
            _need(str(epoch) == name, f"{what} is of another epoch")
            _need(log.data[160:192] == bundle_hash, f"{what} settles another clearing")
            _need(log.to == self.escrow, f"{what} was not sent to escrow")
            self.settled[epoch], self.sums[epoch] = log, dict.fromkeys(LINE_CODES, 0)

    def class_lines(self) -> None:
        """Each settlement gives the class at least what its leases here were booked; all of it, if they are all."""
        self.report.is_whole = True
        for epoch, log in self.settled.items():
            sums = self.sums[epoch]
            ours = (sums[EARNED] + sums[HELD_BACK] + sums[FEE], sums[HELD_BACK], sums[RETURNED] + sums[CREDIT])
            words = [word for word in settled_words(log.calldata, epoch) if word >> 192 == self.node_class]
            _need(len(words) == 1, f"settlement {epoch} does not name the class")
            given = (words[0] >> 128 & MASK, words[0] >> 64 & MASK, words[0] & MASK)
            _need(all(a <= b for a, b in zip(ours, given, strict=True)), f"settlement {epoch} gave the class less")
            self.report.is_whole &= ours == given
        told = "these are all its leases there" if self.report.is_whole else "other leases had a part in it"
        self.say(f"{_many(self.settled, 'settlement')} gave node class {self.node_class} what is booked; {told}")

    # -- one lease -------------------------------------------------------------------------------------------------
    def line(self, line: Mapping[str, Any]) -> str:
        lease = str(UUID(line["lease"]))
        _need(lease == line["lease"], "a lease's id is written otherwise")
        rows = [{**_fields(row, AWARD, "an award"), "demand_id": line["demand"], "bid_id": line["bid"]}
                for row in line["awards"]]  # fmt: skip
        known = [row for row in self.published if (row["demand_id"], row["bid_id"]) == (line["demand"], line["bid"])]
        _need(len(rows) > 0 and rows == known, f"lease {lease}: its awards are not those of the public bundle")
        fee = sum(row["amount_micros"] for row in rows)

        evidence = line["evidence"]
        text = json.dumps(evidence, separators=(",", ":"), sort_keys=True).encode()
        day = _whole(line["day"])
        _need(day in self.days, f"lease {lease}: its day of evidence is not there")
        self.used.add(("day", day))
        root = climb(hashlib.sha256(text).digest(), line["evidence_path"])
        _need(root == self.days[day], f"lease {lease}: its readings are not those that were sealed")
        _need((evidence[0], evidence[2]) == (lease, fee), f"lease {lease}: its readings are of another lease or fee")

        moved = [self.transfer(_fields(row, LINE_MOVED, "a transfer"), lease) for row in line["transfers"]]
        _need(sum(amount for amount, _, _ in moved) == fee, f"lease {lease}: its transfers are not its whole fee")
        _need(len({debit for _, debit, _ in moved}) == 1, f"lease {lease}: its money came from two accounts")
        self.earned += sum(amount for amount, _, code in moved if code == EARNED)
        readings, transfers = _many(evidence[3:], "reading"), _many(moved, "transfer")
        self.say(f"lease {lease}: award of {fee} micro-USD, {readings}, {transfers}")
        return lease

    def transfer(self, row: Mapping[str, Any], lease: str) -> tuple[int, int, int]:
        epoch, code, amount = _whole(row["settlement"]), _whole(row["code"]), _whole(row["amount_micros"])
        _need(epoch in self.settled and code in LINE_CODES, f"lease {lease}: a transfer is of no settlement shown")
        self.sealed(row, self.settled[epoch].reference)
        self.used.add(("settlement", epoch))
        self.sums[epoch][code] += amount
        if code == EARNED:
            self.payable.add(_whole(row["credit"]))
        return amount, _whole(row["debit"]), code

    def sealed(self, row: Mapping[str, Any], reference: bytes) -> None:
        """A transfer's leaf lies under the root of its epoch; each stands there once."""
        epoch, seq = _whole(row["epoch"]), _whole(row["seq"])
        _need(epoch in self.roots, f"transfer {seq}: its epoch is not there")
        self.used.add(("epoch", epoch))
        _need(climb(leaf(row, reference), row["path"]) == self.roots[epoch], f"transfer {seq} is not what was sealed")
        _need(("seq", seq) not in self.used, f"transfer {seq} stands there twice")
        self.used.add(("seq", seq))

    # -- the payout ------------------------------------------------------------------------------------------------
    def paid(self) -> None:
        log = self.log(self.proof["payout"], BOOKED, self.escrow, "PaidOut(uint64,address,uint64)", "the payout")
        _need(int.from_bytes(log.topics[1], "big") == self.node_class, "the payout is of another class")
        _need(len(self.payable) == 1, "no account of the class, or more than one, earned here")
        amount, moved = log.word(1), 0
        for row in self.proof["payout_transfers"]:
            self.sealed(_fields(row, MOVED, "a transfer"), log.reference)
            _need({_whole(row["debit"])} == self.payable, "the payout was booked from another account")
            moved += _whole(row["amount_micros"])
        _need(moved == amount, "the payout was booked with another amount")
        _need(self.earned <= amount, "the payout is less than these leases earned")
        latest = max(log.block_number for log in self.settled.values())
        _need(latest <= log.block_number, "the payout came before the settlement")
        self.report.paid_micros = amount
        self.say(f"escrow paid the class {amount} micro-USD, {self.earned} of it for these leases, to 0x"
                 f"{log.data[12:32].hex()} by {self.proof['payout']['tx_hash']}")  # fmt: skip

    def everything_was_needed(self) -> None:
        shown = {("epoch", n) for n in self.roots} | {("day", n) for n in self.days}
        shown |= {("settlement", n) for n in self.settled}
        _need(shown <= self.used, "it shows something that no lease needs")

    def opened(self, opening: Mapping[str, Any]) -> None:
        _need(opening["format"] == OPENING_FORMAT, "it is no opening")
        name = opened_name(_hex(opening["key"]), opening["parts"])
        _need(name == opening["id"], "the key does not open this id")
        ids = {line[side] for line in self.proof["lines"] for side in ("demand", "bid")}
        _need(name in ids, "the opening is of no award in this proof")
        self.say(f"{name} is {', '.join(opening['parts'])}")

    def say(self, sentence: str) -> None:
        self.report.steps.append(sentence)


def _many(things: Sized, word: str) -> str:
    return f"{len(things)} {word}{'' if len(things) == 1 else 's'}"


def opened_name(key: bytes, parts: list[str]) -> str:
    """The id that a key and what it hides were published under: a salted commitment, 80 bits of it."""
    return f"{parts[0][0]}-{hashlib.sha256(key + chr(0).join(parts).encode()).hexdigest()[:20]}"


def settled_words(calldata: bytes, epoch: int) -> list[int]:
    """The class lines of a call of escrow.settle. Raises Broken for another call or epoch."""
    signature = b"settle(uint64,uint256[],uint256[],uint64,bytes32,bytes32)"
    words = [int.from_bytes(calldata[at : at + 32], "big") for at in range(4, len(calldata), 32)]
    _need(calldata[:4] == keccak(signature)[:4] and words[0] == epoch, f"settlement {epoch} is another call")
    start = words[2] // 32
    return words[start + 1 : start + 1 + words[start]]


# -- the books' tree -------------------------------------------------------------------------------------------------
def leaf(row: Mapping[str, Any], reference: bytes) -> bytes:
    """A posted transfer's leaf: every column at a fixed width, big-endian; what is absent is told apart from zero."""
    link = row["link"]
    return keccak(
        b"\x00\x01" + LEDGER.to_bytes(4, "big") + _uuid(row["id"])
        + b"".join(_whole(row[name]).to_bytes(8, "big") for name in ("seq", "debit", "credit", "amount_micros"))
        + b"\x00" + _whole(row["code"]).to_bytes(2, "big") + bytes([_whole(row["origin"])])
        + bytes(17) + (bytes(17) if link is None else b"\x01" + _uuid(link))
        + NO_TIME.to_bytes(8, "big", signed=True) + b"\x01" + keccak(reference)
        + b"".join(_whole(row[name]).to_bytes(8, "big", signed=True) for name in ("effective_at", "posted_at"))
    )  # fmt: skip


def _uuid(text: str) -> bytes:
    _need(str(UUID(text)) == text, "an id is written otherwise")
    return UUID(text).bytes


def climb(here: bytes, path: Any) -> bytes:
    """The root that a leaf leads to: node = keccak(0x01 || left || right)."""
    for side, sister in path:
        other = _hex(sister)
        _need(side in ("left", "right") and len(other) == 32, "a step of a path is none")
        here = keccak(b"\x01" + (other + here if side == "left" else here + other))
    return here


# -- RLP, Patricia tries, keccak: nothing outside Python's library knows them ------------------------------------------
def rlp(data: bytes) -> Any:
    """Decode one RLP item that fills `data` (yellow paper, appendix B)."""
    item, rest = _item(data)
    _need(rest == b"", "bytes follow an RLP item")
    return item


def _item(data: bytes) -> tuple[Rlp, bytes]:
    head = data[0]
    if head < 0x80:
        return data[:1], data[1:]
    base = 0x80 if head < 0xC0 else 0xC0
    size, start = head - base, 1
    if size > 55:
        start = 1 + size - 55
        size = int.from_bytes(data[1:start], "big")
    body, rest = data[start : start + size], data[start + size :]
    _need(len(body) == size, "an RLP item is cut short")
    return (body if base == 0x80 else list(_items(body))), rest


def _items(body: bytes) -> Iterator[Rlp]:
    while body:
        item, body = _item(body)
        yield item


def in_trie(root: Any, place: int, nodes: list[bytes], what: str) -> bytes:
    """The value at a place of a block's trie, from the nodes on the way, root first (yellow paper, appendix D)."""
    key = _rlp_of(place)
    path = [nibble for byte in key for nibble in (byte >> 4, byte & 15)]
    waiting, here = iter(nodes), root
    while True:
        if isinstance(here, bytes):
            body = next(waiting, None)
            _need(body is not None and keccak(body) == here, f"{what}: a node of its trie is not the one named")
            assert body is not None
            here = rlp(body)
        if len(here) == 17:
            if path:
                here, path = here[path[0]], path[1:]
                _need(here != b"", f"{what}: the block has nothing at that place")
                continue
            value = here[16]
            break
        flag = here[0][0] >> 4
        steps = [nibble for byte in here[0] for nibble in (byte >> 4, byte & 15)][2 - flag % 2 :]
        _need(path[: len(steps)] == steps, f"{what}: the block has nothing at that place")
        path, value = path[len(steps) :], here[1]
        if flag >= 2:
            break
        here = value
    _need(path == [] and next(waiting, None) is None, f"{what}: its trie has nodes too many")
    return bytes(value)


def _rlp_of(number: int) -> bytes:
    body = number.to_bytes((number.bit_length() + 7) // 8, "big")
    return body if len(body) == 1 and body[0] < 0x80 else bytes([0x80 + len(body)]) + body


def _rotation() -> list[tuple[int, int, int]]:
    """Where keccak's rho and pi bring each lane: (from, to, turn)."""
    x, y, moves = 1, 0, [(0, 0, 0)]
    for step in range(24):
        to = y + 5 * ((2 * x + 3 * y) % 5)
        moves.append((x + 5 * y, to, (step + 1) * (step + 2) // 2 % 64))
        x, y = y, (2 * x + 3 * y) % 5
    return moves


def _constants() -> list[int]:
    register, found = 1, []
    for _ in range(24):
        constant = 0
        for power in range(7):
            if register & 1:
                constant |= 1 << ((1 << power) - 1)
            register = ((register << 1) ^ ((register >> 7) * 0x171)) & 0xFF
        found.append(constant)
    return found


_MOVES, _IOTA = _rotation(), _constants()


def keccak(data: bytes) -> bytes:
    """keccak-256 as Ethereum has it (padding 0x01)."""
    padded = data + b"\x01" + bytes(-(len(data) + 1) % 136)
    padded = padded[:-1] + bytes([padded[-1] | 0x80])
    lanes = [0] * 25
    for start in range(0, len(padded), 136):
        for place in range(17):
            lanes[place] ^= int.from_bytes(padded[start + 8 * place : start + 8 * place + 8], "little")
        for constant in _IOTA:
            lanes = _round(lanes, constant)
    return b"".join(lane.to_bytes(8, "little") for lane in lanes[:4])


def _round(a: list[int], constant: int) -> list[int]:
    v, w, x, y, z = (a[n] ^ a[n + 5] ^ a[n + 10] ^ a[n + 15] ^ a[n + 20] for n in range(5))
    d = [left ^ ((right << 1 | right >> 63) & MASK) for left, right in ((z, w), (v, x), (w, y), (x, z), (y, v))] * 5
    b = [0] * 25
    for source, to, turn in _MOVES:
        lane = a[source] ^ d[source]
        b[to] = (lane << turn | lane >> (64 - turn)) & MASK
    a = []
    for row in range(0, 25, 5):
        v, w, x, y, z = b[row : row + 5]
        a += (v ^ (x & ~w), w ^ (y & ~x), x ^ (z & ~y), y ^ (v & ~z), z ^ (w & ~v))  # of 64 bits each, as x & ~w is
    a[0] ^= constant
    return a


# -- the program -----------------------------------------------------------------------------------------------------
def read_awards(bundle: Path) -> bytes:
    """awards.jsonl of a bundle, a folder or a .zip. Raises OSError, KeyError or BadZipFile where there is none."""
    if bundle.is_dir():
        return (bundle / AWARDS).read_bytes()
    with zipfile.ZipFile(bundle) as archive:
        return archive.read(AWARDS)


def verify_file(path: Path, *, bundle: Path | None = None, opening: Path | None = None) -> Report:
    """Follow the proof in a file. Raises OSError, KeyError or BadZipFile where a file is missing."""
    try:
        proof = json.loads(path.read_text(encoding="utf-8"))
        opened = json.loads(opening.read_text(encoding="utf-8")) if opening else None
    except (UnicodeDecodeError, ValueError) as problem:
        return Report(broken=f"it cannot be read as JSON: {problem}")
    return verify(proof, awards=read_awards(bundle) if bundle else None, opening=opened)


def told(report: Report) -> Iterator[str]:
    """The report in lines."""
    yield from (f"ok      {step}" for step in report.steps)
    if report.broken:
        yield f"BROKEN  {report.broken}"
        return
    yield "The proof holds if these blocks are the chain's; compare their hashes with a node of your own:"
    yield from (f"        block {number}  {digest}" for number, digest in sorted(report.blocks.items()))


def main(arguments: list[str]) -> int:
    names = {arguments[at]: arguments[at + 1] for at in range(1, len(arguments) - 1, 2)}
    if not arguments or len(arguments) % 2 == 0 or set(names) - {"--bundle", "--opening"}:
        print("usage: offline.py PROOF.json [--bundle DIRECTORY] [--opening FILE]", file=sys.stderr)
        return 2
    paths = {name.lstrip("-"): Path(value) for name, value in names.items()}
    try:
        report = verify_file(Path(arguments[0]), **paths)
    except (OSError, KeyError, zipfile.BadZipFile) as problem:
        print(f"a file is missing: {problem}", file=sys.stderr)
        return 2
    print("\n".join(told(report)))
    return 1 if report.broken else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
