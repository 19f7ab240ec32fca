"""Signed readings: what a machine says of itself, slot by slot, in a chain that shows every gap.

A report covers one slot of one lease: 60 bits, bit m set when the workload ran in minute m. Its bytes are canonical
JSON; the signature is Ed25519 over a fixed prefix and those bytes; each report names the hash of the one before it.
The word travels as hex text, since JSON readers round integers beyond 2^53.
"""

import hashlib
import json
from dataclasses import asdict, dataclass

from marketplace.agent.errors import ReadingForged, ReadingMalformed, ReadingOutOfSequence, ReadingReplayed
from marketplace.agent.keys import MachineKey, is_signed_by
from pricing.metering import FULL_WORD

SIGN_PREFIX = b"grove-exchange reading 1\n"
SLOT_SECONDS = 3600


@dataclass(frozen=True)
class SlotReport:
    """One slot of one lease as its machine saw it."""

    lease: str
    machine: str
    sequence: int  # 1, 2, 3 ... over all reports of the machine
    slot_start_at: int  # unix seconds, on the hour
    up_word: int  # bit m: minute m was up
    previous: str  # hex SHA-256 of the report before it; 64 zeros for the first


@dataclass(frozen=True)
class SignedReport:
    """What goes over the wire."""

    body: bytes
    signature: bytes

    @property
    def hash(self) -> str:
        """What the next report names as its `previous`."""
        return hashlib.sha256(self.body).hexdigest()


@dataclass(frozen=True)
class ChainHead:
    """How far a machine's chain has been taken."""

    sequence: int
    hash: str


START = ChainHead(sequence=0, hash="0" * 64)


def sign_report(
    key: MachineKey, *, lease: str, machine: str, slot_start_at: int, up_word: int, head: ChainHead
) -> tuple[SignedReport, ChainHead]:
    """Sign the next report of a chain; also the head after it. Raises ReadingMalformed for an impossible slot."""
    report = SlotReport(lease, machine, head.sequence + 1, slot_start_at, up_word, head.hash)
    _refuse_impossible(report)
    body = _to_bytes(report)
    signed = SignedReport(body, key.sign(SIGN_PREFIX + body))
    return signed, ChainHead(report.sequence, signed.hash)


def accept_report(
    signed: SignedReport, *, public_key: bytes, machine: str, head: ChainHead
) -> tuple[SlotReport, ChainHead]:
    """The report, and the head after it, if it is the next one of this machine's chain.

    Raises ReadingForged (signature, or another machine's report), ReadingMalformed, ReadingReplayed (its number was
    taken before) or ReadingOutOfSequence (a gap, or it follows another report than the one taken last).
    """
    if not is_signed_by(public_key, SIGN_PREFIX + signed.body, signed.signature):
        raise ReadingForged("The reading is not signed by this machine's key.", machine=machine)
    report = read_report(signed.body)
    if report.machine != machine:
        raise ReadingForged("The reading speaks for another machine.", machine=machine, named=report.machine)
    if report.sequence <= head.sequence:
        raise ReadingReplayed("That number was taken before.", sequence=report.sequence, taken=head.sequence)
    if report.sequence != head.sequence + 1 or report.previous != head.hash:
        raise ReadingOutOfSequence(
            "A reading is missing before this one.", sequence=report.sequence, expected=head.sequence + 1
        )
    return report, ChainHead(report.sequence, signed.hash)


def _to_bytes(report: SlotReport) -> bytes:
    fields = asdict(report) | {"up_word": f"{report.up_word:015x}"}
    return json.dumps(fields, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def read_report(body: bytes) -> SlotReport:
    """The report in these bytes, whoever signed them. Raises ReadingMalformed."""
    try:
        fields = json.loads(body)
        report = SlotReport(**(fields | {"up_word": int(fields["up_word"], 16)}))
        _refuse_impossible(report)
        is_canonical = _to_bytes(report) == body
    except (ValueError, KeyError, TypeError) as error:
        raise ReadingMalformed("That is no slot report.", cause=type(error).__name__) from error
    if not is_canonical:
        raise ReadingMalformed("The report is not in its canonical form.")
    return report


def _refuse_impossible(report: SlotReport) -> None:
    texts = (report.lease, report.machine, report.previous)
    numbers = (report.sequence, report.slot_start_at, report.up_word)
    if not all(type(text) is str for text in texts) or not all(type(number) is int for number in numbers):
        raise ReadingMalformed("A field of the report has the wrong kind.")
    if not 0 <= report.up_word <= FULL_WORD or report.slot_start_at % SLOT_SECONDS or report.sequence < 1:
        raise ReadingMalformed("A slot starts on the hour and has 60 minutes.", slot_start_at=report.slot_start_at)
