"""A live market for tests: three verifiers and a buyer with keys of their own, probing what the small world leases."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from marketplace import models as m
from marketplace.agent.keys import MachineKey, enrolment_statement
from marketplace.agent.readings import START, ChainHead, SignedReport, sign_report
from marketplace.agent.statements import (
    EXTRA,
    FIRST,
    NO_ECHO,
    RETRY,
    Beat,
    CheckStatement,
    ProbeStatement,
    sign_echo,
    sign_statement,
)
from marketplace.delivery.checks import begins_at, due_at, proven_ops_of, take_checks
from marketplace.delivery.intake import take_counter_readings, take_heartbeats, take_probes, take_readings
from marketplace.delivery.probing import Draw, Draws, enrol_witness_key, tend_probe_days
from marketplace.delivery.promises import promises
from marketplace.demo.keys import machine_key
from marketplace.parties.services import register_party
from pricing.metering import FULL_WORD
from tests.journey import world

VERIFIERS = ("oak", "pine", "yew")
ECHO_MS = 8


def key_of(name: str) -> MachineKey:
    """A witness's key, the same in every run."""
    return MachineKey(Ed25519PrivateKey.from_private_bytes(hashlib.sha256(f"witness {name}".encode()).digest()))


def enrol(party: m.Party, now: datetime, name: str = "") -> m.WitnessKey:
    given = enrolment_statement(key_of(name or party.slug), f"witness:{party.slug}")
    return enrol_witness_key(party=party, public_key=given["public_key"], signature=given["signature"], now=now)


@dataclass
class Live:
    """One lease of the small world under three verifiers."""

    reference: str = "genome"
    provider: str = "granite"
    head: ChainHead | None = None
    counter: ChainHead = START
    beats: int = 0
    nonces: int = 0
    draws: Draws = field(default_factory=Draws)

    @cached_property
    def known(self) -> m.Lease:
        """The lease's terms, which never change."""
        return self.lease

    @property
    def lease(self) -> m.Lease:
        return m.Lease.objects.select_related("window", "node_class", "buyer", "provider", "demand").get(
            demand__reference=self.reference, step_in=None
        )

    @property
    def panel(self) -> tuple[str, ...]:
        return self.draw(self.at(0)).panel

    @cached_property
    def units(self) -> int:
        lease = self.known
        return promises(leases=[lease])[lease.pk, lease.start_slot].units

    def draw(self, minute_at: datetime) -> Draw:
        return self.draws.of(self.known, minute_at.astimezone(UTC).date())

    def at(self, minute: float) -> datetime:
        """A minute of the window, counted from its start."""
        return self.known.window.starts_at + timedelta(minutes=minute)

    def after(self, slot: int, hours: float = 0) -> datetime:
        return self.known.window.slot_at(slot + 1) + timedelta(minutes=1, hours=hours)

    # --- what witnesses sign ---------------------------------------------------------------------------------------

    def probe(self, minute: int, verifier: str, *, up: bool = True, attempt: int = FIRST, key: str = "",
              **changes: Any) -> SignedReport:  # fmt: skip
        """A report of one minute; `up=False` says that one of the devices is missing."""
        lease, minute_at = self.known, self.at(minute)  # not asked for again: some tests send thousands
        draw = self.draw(minute_at)
        of_day = minute_at.hour * 60 + minute_at.minute
        second: float = draw.second(of_day)
        if attempt == RETRY:
            second += draw.retry_seconds(of_day, verifier)
        second = 59 if attempt == EXTRA else second
        self.nonces += 1
        told = {
            "verifier": verifier, "lease": str(lease.pk), "machine": str(lease.node_class_id),
            "minute_at": int(minute_at.timestamp()), "attempt": attempt, "clock_skew_ms": 10,
            "probed_at_ms": int((minute_at + timedelta(seconds=second)).timestamp() * 1000), "anchors": [True] * 3,
            "nonce": hashlib.sha256(f"{verifier} {self.nonces}".encode()).hexdigest(), "port_ok": True,
            "devices": self.units - (not up),
        } | changes  # fmt: skip
        if "echo" not in told:
            told["echo"] = sign_echo(
                machine_key(self.provider), lease=told["lease"], minute_at=told["minute_at"], attempt=attempt,
                nonce=told["nonce"], devices=told["devices"],
            )  # fmt: skip
        told.setdefault("echo_ms", ECHO_MS if told["echo"] else NO_ECHO)
        return sign_statement(key_of(key or verifier), ProbeStatement(**told))

    def reading(self, slot: int, up_word: int = FULL_WORD, **changes: Any) -> SignedReport:
        facts = {
            "lease": str(self.known.pk), "machine": str(self.known.node_class_id), "up_word": up_word,
            "slot_start_at": int(self.known.window.slot_at(slot).timestamp()), "head": self.head or self._head(),
        } | changes  # fmt: skip
        signed, self.head = sign_report(machine_key(self.provider), **facts)
        return signed

    def counter_reading(self, slot: int, up_word: int = FULL_WORD, **changes: Any) -> SignedReport:
        facts = {
            "lease": str(self.known.pk), "machine": self.known.buyer.slug, "up_word": up_word,
            "slot_start_at": int(self.known.window.slot_at(slot).timestamp()), "head": self.counter,
        } | changes  # fmt: skip
        signed, self.counter = sign_report(key_of(self.known.buyer.slug), **facts)
        return signed

    def beat(self, at: datetime, devices: int | None = None, **changes: Any) -> SignedReport:
        self.beats += 1
        told = {
            "machine": str(self.known.node_class_id), "sequence": self.beats, "probe_address": "http://127.0.0.1:9",
            "sent_at_ms": int(at.timestamp() * 1000), "workload_address": "127.0.0.1:10",
            "devices": {str(self.known.pk): self.units if devices is None else devices},
        } | changes  # fmt: skip
        return sign_statement(machine_key(self.provider), Beat(**told))

    def _head(self) -> ChainHead:
        taken = m.ReportChain.objects.filter(node_class=self.known.node_class_id).first()
        return ChainHead(taken.sequence, taken.head) if taken else START

    def check(self, interval: int, verifier: str, *, share: float, again: float | None = None, **changes: Any
              ) -> SignedReport:  # fmt: skip
        """A re-check at a share of the proven score; `again` is the second try's."""
        lease = self.known
        due = due_at(lease, interval, self.draws)
        proven = proven_ops_of(lease, due)
        told = {
            "verifier": verifier, "lease": str(lease.pk), "machine": str(lease.node_class_id), "interval": interval,
            "first_at_ms": int(due.timestamp() * 1000) + 1000, "first_ops": int(proven * share),
            "second_at_ms": int((due + timedelta(minutes=10)).timestamp() * 1000) + 1000 if again is not None else 0,
            "second_ops": -1 if again is None else int(proven * again), "transcript": "ab" * 32,
        } | changes  # fmt: skip
        return sign_statement(key_of(verifier), CheckStatement(**told))

    # --- what they send --------------------------------------------------------------------------------------------

    def send_probes(self, verifier: str, signed: Iterable[SignedReport], now: datetime) -> int:
        return take_probes(party=world.party(verifier), signed=list(signed), now=now)

    def send_checks(self, interval: int, *, share: float, again: float | None = None) -> None:
        """The whole panel checks one interval."""
        now = begins_at(self.known, interval + 1)
        for verifier in self.panel:
            take_checks(party=world.party(verifier), now=now,
                        signed=[self.check(interval, verifier, share=share, again=again)])  # fmt: skip

    def send_reading(self, *signed: SignedReport, now: datetime) -> int:
        return take_readings(party=world.party(self.provider), signed=list(signed), now=now)

    def send_counter(self, *signed: SignedReport, now: datetime) -> int:
        return take_counter_readings(party=self.known.buyer, signed=list(signed), now=now)

    def send_beat(self, *signed: SignedReport, now: datetime) -> int:
        return take_heartbeats(party=world.party(self.provider), signed=list(signed), now=now)

    def round(self, minute: int, *, down: Iterable[str] = (), now: datetime | None = None) -> None:
        """All three verifiers report one minute, with their retries; `down` are those that see a device missing."""
        for verifier in self.panel:
            sees_down = verifier in tuple(down)
            sent = [self.probe(minute, verifier, up=not sees_down)]
            sent += [self.probe(minute, verifier, up=False, attempt=RETRY)] if sees_down else []
            self.send_probes(verifier, sent, now or self.at(minute + 1) + timedelta(seconds=16))

    def probe_slot(self, slot: int, *, down: int = 0, void: int = 0, slow: int = 0, slow_ms: int = 400,
                   now: datetime | None = None) -> None:  # fmt: skip
        """Every verifier reports a whole slot; words say in which minutes it was down, slow, or nobody could see."""
        for verifier in self.panel:
            sent = []
            for minute in range(60):
                is_down, is_void = bool(down >> minute & 1), bool(void >> minute & 1)
                more: dict[str, Any] = {"anchors": [True, False, True]} if is_void else {}
                more |= {"echo_ms": slow_ms} if slow >> minute & 1 else {}
                sent.append(self.probe(60 * slot + minute, verifier, up=not is_down, **more))
                if is_down and not is_void:
                    sent.append(self.probe(60 * slot + minute, verifier, up=False, attempt=RETRY))
            for first in range(0, len(sent), 100):
                self.send_probes(verifier, sent[first : first + 100], now or self.after(slot))


def go_live(reference: str = "genome", provider: str = "granite", *, counter: bool = False) -> Live:
    """Enrol the witnesses a day before the window; with `counter` the buyer too."""
    live = Live(reference, provider)
    now = live.at(-24 * 60)
    for name in VERIFIERS:
        party = register_party(slug=name, name=name.title(), kind="verifier", country="DE", parent_country="DE",
                               now=now)  # fmt: skip
        enrol(party, now)
    if counter:
        enrol(live.lease.buyer, now)
    for day in range(3):
        tend_probe_days(now=now + timedelta(days=day))
    return live
