"""The minutes of a demo window: outages on machines become signed reports and probe words, slot by slot."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import datetime
from uuid import UUID

import numpy as np
from django.db.models import Min

from marketplace.agent.readings import ChainHead, sign_report
from marketplace.catalogue.models import Window
from marketplace.delivery.models import Reading, ReportChain
from marketplace.delivery.promises import promises
from marketplace.delivery.services import SlotWitness, record_slots
from marketplace.demo.keys import machine_key
from marketplace.demo.world import Outage
from marketplace.escrow.models import Lease
from marketplace.supply.models import NodeClass, SiteLatency
from pricing.metering import pack

VOID_RATE = 0.002  # a verifier's anchors fail now and then; its report of that minute counts for nothing
VERIFIERS = 3
HEARD_MIN = 2  # valid reports that make a minute known
ECHO_SPREAD, NORMAL_P95 = 0.2, 1.645  # of the logarithm of an echo time; and where a normal value has 5 % above it


def report_window(
    *, window: Window, outages: Sequence[Outage], codes: dict[UUID, str], seed: int, now: datetime
) -> int:
    """Let every machine report and every verifier probe all leased slots of a window; returns how many slots were new.

    `codes` names the node classes as the outages do. What a lease loses follows from the units that were down.
    """
    by_class: dict[NodeClass, list[Lease]] = defaultdict(list)
    leases = Lease.objects.filter(window=window).exclude(state="refused").select_related("node_class", "demand", "bid")
    for lease in leases.order_by("node_class__chain_class", "demand__accepted_rank", "bid__accepted_rank", "id"):
        by_class[lease.node_class].append(lease)
    written = 0
    for node_class, members in by_class.items():
        code = codes[node_class.pk]
        mine = [outage for outage in outages if outage.node_class == code]
        witnesses = _witnesses(window, node_class, members, mine, code, seed)
        written += record_slots(window=window, node_class=node_class, witnesses=witnesses, now=now)
    return written


def _witnesses(
    window: Window, node_class: NodeClass, leases: Sequence[Lease], outages: Sequence[Outage], code: str, seed: int
) -> list[SlotWitness]:
    owed = promises(leases=leases)
    stood = set(Reading.objects.filter(lease__in=leases).values_list("lease_id", "slot"))
    place = {lease.pk: n for n, lease in enumerate(leases)}
    order = sorted((key for key in owed if key not in stood), key=lambda key: (key[1], place[key[0]]))
    if not order:
        return []
    first_unit = _first_units(order, owed, stood, place)
    key, chain = machine_key(code), ReportChain.objects.filter(node_class=node_class).first()
    head = ChainHead(chain.sequence, chain.head) if chain else ChainHead(0, "0" * 64)
    p95_ms = SiteLatency.objects.filter(site=node_class.site_id).aggregate(least=Min("rtt_ms_p95"))["least"]
    witnesses = []
    for lease_id, slot in order:
        down = _down_minutes(slot, first_unit[lease_id, slot], owed[lease_id, slot].units, outages, node_class.units)
        valid = _valid_reports(seed, code, place[lease_id], slot)
        signed, head = sign_report(
            key, lease=str(lease_id), machine=str(node_class.pk), up_word=int(pack(~down)), head=head,
            slot_start_at=int(window.slot_at(slot).timestamp()),
        )  # fmt: skip
        heard = ~down & (valid.sum(axis=0) >= HEARD_MIN)
        echoes = _echoes(seed, code, place[lease_id], slot, heard, p95_ms)
        witnesses.append(SlotWitness(signed, _words(valid), _words(valid & down), echoes))
    return witnesses


def _first_units(
    order: Sequence[tuple[UUID, int]], owed: dict, stood: Iterable[tuple[UUID, int]], place: dict[UUID, int]
) -> dict[tuple[UUID, int], int]:
    """Which unit each lease starts at: leases stand side by side on the machines of a slot."""
    slots: dict[int, int] = defaultdict(int)
    first = {}
    for key in sorted(owed, key=lambda key: (key[1], place[key[0]])):
        first[key] = slots[key[1]]
        slots[key[1]] += owed[key].units
    return first


def _down_minutes(slot: int, first_unit: int, units: int, outages: Sequence[Outage], class_units: int) -> np.ndarray:
    down = np.zeros(60, dtype=bool)
    for outage in outages:
        start, end = max(0, outage.start_minute - 60 * slot), min(60, outage.end_minute - 60 * slot)
        if start < end and _hits(outage, first_unit, units, class_units):
            down[start:end] = True  # one missing device is a failure of the lease (partial loss)
    return down


def _hits(outage: Outage, first_unit: int, units: int, class_units: int) -> bool:
    if outage.units_down >= class_units:
        return True
    digest = hashlib.sha256(f"{outage.node_class}/{outage.start_minute}".encode()).digest()
    lowest = int.from_bytes(digest[:4], "big") % (class_units - outage.units_down + 1)
    return lowest < first_unit + units and first_unit < lowest + outage.units_down


def _valid_reports(seed: int, code: str, place: int, slot: int) -> np.ndarray:
    digest = hashlib.sha256(f"{seed}/{code}/{place}/{slot}".encode()).digest()
    rng = np.random.default_rng(int.from_bytes(digest[:8], "big"))
    return rng.random((VERIFIERS, 60)) >= VOID_RATE


def _echoes(
    seed: int, code: str, place: int, slot: int, heard: np.ndarray, p95_ms: int | None
) -> tuple[int | None, ...]:
    """Echo times whose 95th percentile is the round trip of the site's nearest vantage, ms; none where none is known.

    A minute that was down, or that fewer than two verifiers saw, has no echo.
    """
    if p95_ms is None:
        return ()
    digest = hashlib.sha256(f"echo/{seed}/{code}/{place}/{slot}".encode()).digest()
    drawn = np.random.default_rng(int.from_bytes(digest[:8], "big")).standard_normal(heard.size)
    times = np.ceil(p95_ms * np.exp(ECHO_SPREAD * (drawn - NORMAL_P95))).astype(int)
    return tuple(int(ms) if is_heard else None for ms, is_heard in zip(times, heard, strict=True))


def _words(minutes: np.ndarray) -> tuple[int, int, int]:
    one, two, three = (int(word) for word in pack(minutes))
    return one, two, three
