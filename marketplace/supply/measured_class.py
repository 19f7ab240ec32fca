"""The resource class of a node class is what its attested benchmark measures, whatever name was declared."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from ledger.ids import uuid7
from marketplace.catalogue.models import ResourceClass
from marketplace.governance.services import record
from marketplace.supply.change_models import SupplyChange, next_no
from marketplace.supply.models import Benchmark, NodeClass
from pricing.transcript import ReferenceRow, class_of


def reaches(benchmark: Benchmark, resource_class: ResourceClass) -> bool:
    """Whether the measured figures reach the thresholds of one class."""
    return _highest(benchmark, [resource_class]) is not None


def class_measured(benchmark: Benchmark, declared: ResourceClass) -> str | None:
    """The code of the class that a benchmark carries: the declared one if it is reached, else the highest that is.

    The declared one comes first because two classes may stand close together: an A100 also reaches 85 % of an L40S.
    None when the figures reach no class of the catalogue.
    """
    if reaches(benchmark, declared):
        return declared.code
    return _highest(benchmark, ResourceClass.objects.all())


def claim_gap(benchmark: Benchmark, declared: ResourceClass) -> dict[str, object]:
    """What was claimed beside what was measured, for the audit log: shares of the claimed row in basis points."""
    return {
        "claimed_class": declared.code,
        "measured_class": class_measured(benchmark, declared),
        "ops_share_bps": _share_bps(benchmark.ops_per_sec, declared.ops_per_sec),
        "mem_share_bps": _share_bps(benchmark.mem_bytes, declared.mem_bytes),
        "mem_rate_share_bps": _share_bps(benchmark.mem_bytes_per_sec, declared.mem_bytes_per_sec),
    }


def note_gap(benchmark: Benchmark, declared: ResourceClass) -> None:
    """Put the gap between claim and proof on a benchmark that is about to be kept; unmeasured figures stay null.

    A gap is what was measured less what the claimed class's reference row says, in basis points of that row.
    """
    benchmark.claimed_class, benchmark.measured_class = declared.code, class_measured(benchmark, declared)
    benchmark.ops_gap_bps = _gap_bps(benchmark.ops_per_sec, declared.ops_per_sec)
    if benchmark.mem_bytes:
        benchmark.mem_gap_bps = _gap_bps(benchmark.mem_bytes, declared.mem_bytes)
    if benchmark.mem_bytes_per_sec:
        benchmark.mem_rate_gap_bps = _gap_bps(benchmark.mem_bytes_per_sec, declared.mem_bytes_per_sec)


def list_as_measured(*, node_class: NodeClass, challenge: Benchmark, now: datetime) -> bool:
    """Give a node class that was never listed the class that its challenge measures; False where none fits.

    None fits when the figures reach no class, or when the site already has a node class of the measured one: proof,
    stake and exposure are counted per site and class, so the machines belong to that one.
    """
    declared = node_class.resource_class
    code = class_measured(challenge, declared)
    if code is None:
        return False
    if code == declared.code:
        return True
    if NodeClass.objects.filter(site_id=node_class.site_id, resource_class_id=code).exists():
        return False
    SupplyChange.objects.create(
        id=uuid7(now), node_class=node_class, no=next_no(node_class), before={"resource_class": declared.code},
        after={"resource_class": code}, cause="measured", actor="verifiers", at=now,
        reason="the attested challenge measures another class than the declared one",
    )  # fmt: skip
    NodeClass.objects.filter(pk=node_class.pk).update(resource_class_id=code)
    node_class.refresh_from_db(fields=["resource_class"])
    record(
        actor="verifiers", action="list_as_measured", subject=node_class.pk, now=now, claimed_class=declared.code,
        measured_class=code, reason="the attested challenge measures another class than the declared one",
    )  # fmt: skip
    return True


def _highest(benchmark: Benchmark, classes: Iterable[ResourceClass]) -> str | None:
    # A figure of 0 was not measured by the suite that ran, so it is neither for nor against a class.
    rows = [
        ReferenceRow(
            each.code, each.ops_per_sec, each.mem_bytes if benchmark.mem_bytes else 0,
            each.mem_bytes_per_sec if benchmark.mem_bytes_per_sec else 0,
        )
        for each in classes
    ]  # fmt: skip
    return class_of(
        rows, ops_per_second=benchmark.ops_per_sec, memory_bytes=benchmark.mem_bytes,
        memory_bytes_per_second=benchmark.mem_bytes_per_sec,
    )  # fmt: skip


def _share_bps(measured: int, claimed: int) -> int:
    return 10_000 * measured // claimed if claimed else 0


def _gap_bps(measured: int, claimed: int) -> int:
    # A tiny class and a huge machine must not overflow a column: 100 times the claim says enough.
    return min(1_000_000, _share_bps(measured, claimed) - 10_000) if claimed else 0
