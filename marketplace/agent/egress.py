"""The egress meter's report: how many bytes left a machine in one hour of one lease, signed by the machine.

Its prefix is its own, so neither it nor a slot report can be taken for the other.
"""

import json
from dataclasses import asdict, dataclass

from marketplace.agent.errors import ReadingForged, ReadingMalformed
from marketplace.agent.keys import MachineKey, is_signed_by
from marketplace.agent.readings import SLOT_SECONDS, SignedReport

SIGN_PREFIX = b"grove-exchange egress 1\n"
BYTES_MAX = 2**63 - 1


@dataclass(frozen=True)
class EgressReport:
    """One hour of one lease as its machine's meter counted it."""

    lease: str
    slot_start_at: int  # unix seconds, on the hour
    egress_bytes: int


def sign_egress(key: MachineKey, *, lease: str, slot_start_at: int, egress_bytes: int) -> SignedReport:
    """Sign one hour of the meter. Raises ReadingMalformed for an impossible one."""
    body = _to_bytes(_possible(EgressReport(lease, slot_start_at, egress_bytes)))
    return SignedReport(body, key.sign(SIGN_PREFIX + body))


def read_egress(signed: SignedReport, *, public_key: bytes) -> EgressReport:
    """The report, if this machine signed it. Raises ReadingForged, ReadingMalformed."""
    if not is_signed_by(public_key, SIGN_PREFIX + signed.body, signed.signature):
        raise ReadingForged("The meter's report is not signed by this machine's key.")
    try:
        report = _possible(EgressReport(**json.loads(signed.body)))
    except (ValueError, TypeError) as error:
        raise ReadingMalformed("That is no report of an egress meter.", cause=type(error).__name__) from error
    if _to_bytes(report) != signed.body:
        raise ReadingMalformed("The report is not in its canonical form.")
    return report


def _to_bytes(report: EgressReport) -> bytes:
    return json.dumps(asdict(report), sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def _possible(report: EgressReport) -> EgressReport:
    if type(report.lease) is not str or type(report.slot_start_at) is not int or type(report.egress_bytes) is not int:
        raise ReadingMalformed("A field of the report has the wrong kind.")
    if report.slot_start_at % SLOT_SECONDS or not 0 <= report.egress_bytes <= BYTES_MAX:
        raise ReadingMalformed("An hour starts on the hour, and bytes are counted from nothing.")
    return report
