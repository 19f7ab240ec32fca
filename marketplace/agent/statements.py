"""Signed statements of the live market: heartbeats of machines and reports of probes, in one canonical form.

A statement's bytes are canonical JSON (sorted names, no spaces, UTF-8); its signature is Ed25519 over a prefix of its
kind and those bytes, so that none can be passed off as another. Readings of whole slots stand in `readings.py`.

An echo is a machine's signature over the probe that asks for it: lease, minute, attempt, the verifier's nonce, and how
many devices of that lease answer. It cannot be made before the nonce is known, nor used for another minute.
"""

import json
from dataclasses import asdict, dataclass, fields
from typing import TypeVar

from marketplace.agent.errors import ReadingForged, ReadingMalformed
from marketplace.agent.keys import MachineKey, is_signed_by
from marketplace.agent.readings import SignedReport

ECHO_PREFIX = b"grove-exchange echo 1\n"
MINUTE_SECONDS = 60
FIRST, RETRY, EXTRA = 1, 2, 3  # attempts: at the secret second; 5 to 15 seconds after a failure; asked for by suspicion
ANCHORS = 3
ADDRESS_LENGTH_MAX = 200
NO_ECHO = -1
SPAN_MS_MAX = 600_000  # a roll call lasts no longer


@dataclass(frozen=True)
class Beat:
    """One heartbeat of a machine: what it says of itself every 15 seconds."""

    machine: str  # id of the node class, as in its readings
    sequence: int  # rises; a number that was taken is a replay
    sent_at_ms: int  # unix milliseconds by the machine's clock
    devices: dict[str, int]  # lease id: devices of that lease that answer
    probe_address: str  # where verifiers ask for echoes, such as https://host:port
    workload_address: str  # host:port of the workload


@dataclass(frozen=True)
class ProbeStatement:
    """What one verifier saw of one machine of a lease at one instant."""

    verifier: str  # slug of the organisation
    lease: str
    machine: str
    minute_at: int  # unix seconds, on the minute
    attempt: int  # FIRST, RETRY or EXTRA
    probed_at_ms: int  # unix milliseconds by the verifier's clock
    clock_skew_ms: int  # of that clock against the verifier's own time sources
    anchors: list[bool]  # whether each of three anchors answered in that minute
    nonce: str  # 32 bytes in hex, fresh for each attempt
    echo: str  # the machine's signature in hex, empty when it did not answer
    port_ok: bool  # the workload's port took a connection
    devices: int  # devices of the lease that answered
    echo_ms: int | None = None  # from asking to the echo, rounded up; NO_ECHO without one; None in version 1


@dataclass(frozen=True)
class CheckStatement:
    """What one verifier measured of a running lease's machine in one interval of six hours."""

    verifier: str
    lease: str
    machine: str
    interval: int  # 0, 1, 2 ... from the lease's first slot
    first_at_ms: int
    first_ops: int  # operations per second
    second_at_ms: int  # 10 minutes later, only after a first try under the floor; else 0
    second_ops: int  # -1 without a second try
    transcript: str  # SHA-256 in hex of the re-check's transcript


@dataclass(frozen=True)
class CheckAsk:
    """A verifier's question to a machine, not to the market: open your prover to me now."""

    verifier: str
    lease: str
    machine: str
    interval: int
    asked_at_ms: int  # unix milliseconds of market time


@dataclass(frozen=True)
class RollPresence:
    """A machine's answer to a roll call, for itself alone: it is up, and its prover is open."""

    machine: str  # the class that it meters for, or itself as the prover of one more unit
    roll: str
    sent_at_ms: int


@dataclass(frozen=True)
class RollMeasured:
    """What one verifier measured of a called class while the roll was open."""

    verifier: str
    machine: str
    roll: str
    measured_at_ms: int  # when its chain began
    ended_at_ms: int  # when its last root came
    ops: int  # operations per second; 0 where the machine answered and did not prove
    transcript: str  # SHA-256 in hex of the measurement's transcript


@dataclass(frozen=True)
class ChallengeAsk:
    """A machine's wish to be measured by the market's verifiers: where its prover is, and under which certificate."""

    machine: str
    kind: int  # 1 challenge, 2 baseline
    purpose: str  # row of the ladder: demo, short or full
    prover_url: str
    certificate: str  # SHA-256 in hex; empty where an authority signed it, or on loopback
    token: str  # the secret of which each verifier's word is made
    asked_at_ms: int


AnyStatement = Beat | ProbeStatement | CheckStatement | CheckAsk | RollPresence | RollMeasured | ChallengeAsk
Statement = TypeVar(
    "Statement", Beat, ProbeStatement, CheckStatement, CheckAsk, RollPresence, RollMeasured, ChallengeAsk
)
PREFIXES: dict[type, bytes] = {
    Beat: b"grove-exchange heartbeat 1\n", ProbeStatement: b"grove-exchange probe 1\n",
    CheckStatement: b"grove-exchange re-check 1\n", CheckAsk: b"grove-exchange re-check ask 1\n",
    RollPresence: b"grove-exchange roll answer 2\n", RollMeasured: b"grove-exchange roll report 2\n",
    ChallengeAsk: b"grove-exchange challenge ask 1\n",
}  # fmt: skip
TIMED_PROBE_PREFIX = b"grove-exchange probe 2\n"  # the same report with the time that the echo took


def echo_message(*, lease: str, minute_at: int, attempt: int, nonce: str, devices: int) -> bytes:
    """What a machine signs when a verifier asks."""
    return ECHO_PREFIX + f"{lease}/{minute_at}/{attempt}/{nonce}/{devices}".encode()


def sign_echo(key: MachineKey, *, lease: str, minute_at: int, attempt: int, nonce: str, devices: int) -> str:
    """The echo in hex."""
    message = echo_message(lease=lease, minute_at=minute_at, attempt=attempt, nonce=nonce, devices=devices)
    return key.sign(message).hex()


def is_echo_of(public_key: bytes, probe: ProbeStatement) -> bool:
    """Whether the machine itself answered this probe."""
    message = echo_message(
        lease=probe.lease, minute_at=probe.minute_at, attempt=probe.attempt, nonce=probe.nonce, devices=probe.devices
    )
    return bool(probe.echo) and is_signed_by(public_key, message, bytes.fromhex(probe.echo))


def sign_statement(key: MachineKey, statement: AnyStatement) -> SignedReport:
    """The statement's canonical bytes and their signature. Raises ReadingMalformed for an impossible one."""
    _refuse_impossible(statement)
    body = _to_bytes(statement)
    return SignedReport(body, key.sign(prefix_of(type(statement), body) + body))


def accept_statement(kind: type[Statement], signed: SignedReport, *, public_key: bytes) -> Statement:
    """The statement, if this key signed it and it is in its canonical form.

    Raises ReadingForged or ReadingMalformed. Whether it is late, early or a replay is the market's question.
    """
    if not is_signed_by(public_key, prefix_of(kind, signed.body) + signed.body, signed.signature):
        raise ReadingForged("The statement is not signed by that key.")
    return read_statement(kind, signed.body)


def prefix_of(kind: type, body: bytes) -> bytes:
    """What is signed before these bytes. A probe that names its echo's time is of version 2; no text hides a name."""
    return TIMED_PROBE_PREFIX if kind is ProbeStatement and b'"echo_ms":' in body else PREFIXES[kind]


def read_statement(kind: type[Statement], body: bytes) -> Statement:
    """The statement in these bytes, whoever signed them. Raises ReadingMalformed."""
    try:
        statement = kind(**json.loads(body))
        _refuse_impossible(statement)
        is_canonical = _to_bytes(statement) == body
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise ReadingMalformed("That is no statement of this kind.", cause=type(error).__name__) from error
    if not is_canonical:
        raise ReadingMalformed("The statement is not in its canonical form.")
    return statement


def _to_bytes(statement: AnyStatement) -> bytes:
    told = {name: value for name, value in asdict(statement).items() if value is not None}
    return json.dumps(told, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def _refuse_impossible(statement: AnyStatement) -> None:
    for field in fields(statement):
        value = getattr(statement, field.name)
        if field.type in (int, bool, str) and type(value) is not field.type:
            raise ReadingMalformed("A field has the wrong kind.", field=field.name)
        if isinstance(value, int) and not abs(value) < 2**62:
            raise ReadingMalformed("A number is out of range.", field=field.name)
    if wrong := _wrong_field(statement):
        raise ReadingMalformed("A field is out of range.", field=wrong)


def _wrong_field(statement: AnyStatement) -> str | None:
    match statement:
        case Beat():
            return _wrong_beat(statement)
        case ProbeStatement():
            return _wrong_probe(statement)
        case CheckAsk():
            return "interval" if not 0 <= statement.interval < 2**15 else None
        case RollPresence():
            return None
        case RollMeasured():
            return _wrong_measure(statement)
        case ChallengeAsk():
            return _wrong_challenge(statement)
    return _wrong_check(statement)


def _wrong_challenge(ask: ChallengeAsk) -> str | None:
    checks = {
        "kind": ask.kind in (1, 2), "purpose": ask.purpose in ("demo", "short", "full"),
        "prover_url": ask.prover_url.startswith(("https://", "http://"))
        and ask.prover_url.isprintable() and len(ask.prover_url) <= ADDRESS_LENGTH_MAX,
        "certificate": len(ask.certificate) in (0, 64) and _is_hex(ask.certificate),
        "token": 32 <= len(ask.token) <= 64 and ask.token.isalnum(),
    }  # fmt: skip
    return next((name for name, holds in checks.items() if not holds), None)


def _wrong_measure(measured: RollMeasured) -> str | None:
    if measured.ops < 0:
        return "ops"
    if not 0 <= measured.ended_at_ms - measured.measured_at_ms < SPAN_MS_MAX:
        return "ended_at_ms"
    return None if len(measured.transcript) == 64 and _is_hex(measured.transcript) else "transcript"


def _wrong_check(check: CheckStatement) -> str | None:
    checks = {
        "interval": 0 <= check.interval < 2**15, "first_ops": check.first_ops >= 0,
        "second_ops": check.second_ops >= 0 if check.second_at_ms else check.second_ops == -1,
        "transcript": len(check.transcript) == 64 and _is_hex(check.transcript),
    }  # fmt: skip
    return next((name for name, holds in checks.items() if not holds), None)


def _wrong_beat(beat: Beat) -> str | None:
    if type(beat.devices) is not dict or not all(
        type(lease) is str and type(count) is int and 0 <= count < 2**31 for lease, count in beat.devices.items()
    ):
        return "devices"
    for name in ("probe_address", "workload_address"):
        if len(getattr(beat, name)) > ADDRESS_LENGTH_MAX or not getattr(beat, name).isprintable():
            return name
    return "sequence" if beat.sequence < 1 else None


def _wrong_probe(probe: ProbeStatement) -> str | None:
    checks = {
        "minute_at": probe.minute_at >= 0 and probe.minute_at % MINUTE_SECONDS == 0,
        "attempt": probe.attempt in (FIRST, RETRY, EXTRA),
        "anchors": type(probe.anchors) is list
        and len(probe.anchors) == ANCHORS
        and all(type(each) is bool for each in probe.anchors),
        "nonce": len(probe.nonce) == 64 and _is_hex(probe.nonce),
        "echo": len(probe.echo) in (0, 128) and _is_hex(probe.echo),
        "devices": 0 <= probe.devices < 2**31,
        "clock_skew_ms": abs(probe.clock_skew_ms) < 10**9,
        "echo_ms": probe.echo_ms is None or _is_time_of(probe),
    }
    return next((name for name, holds in checks.items() if not holds), None)


def _is_time_of(probe: ProbeStatement) -> bool:
    """An echo has a time, and what did not answer has none."""
    told = probe.echo_ms
    return type(told) is int and (0 <= told < 2**31 if probe.echo else told == NO_ECHO)


def _is_hex(text: str) -> bool:
    return all(each in "0123456789abcdef" for each in text)
