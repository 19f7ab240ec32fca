"""One node class: claim against proof, its machine key, and the commands to run where the machines stand."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_POST, require_safe

from marketplace.delivery.evidence_models import Pulse
from marketplace.delivery.rolls import last_call
from marketplace.doors import found_or_404, market_time, page_of, provider_only, seat_of
from marketplace.errors import MarketError
from marketplace.insights.value import ops_per_usd
from marketplace.parties.roles import acts_of
from marketplace.supply import selectors as supply
from marketplace.supply.key_models import Enrolment, UnitProver
from marketplace.supply.machine_keys import (
    CODES_MAX,
    decide_enrolment,
    make_enrolment_code,
    make_successor_code,
    make_unit_codes,
    retire_unit_prover,
    revoke_machine_key,
)
from marketplace.supply.models import NodeClass
from marketplace.supply.rolls import last_whole_roll
from marketplace.supply.verifiers import attest_quorum, is_demo_panel

AGENT = "python -m marketplace.agent"
UNITS_PER_PAGE = 64
COUNT = re.compile(r"[0-9]{1,6}")


@dataclass(frozen=True)
class Step:
    """One command of the agent, and what it is for."""

    title: str
    command: str
    sentence: str


@require_safe
@provider_only
def class_page(request: HttpRequest, node_class_id: UUID) -> HttpResponse:
    """One node class: claim against proof, who attested, its key, and how its standing changed."""
    return _page(request, _own(request, node_class_id))


@require_POST
@provider_only
def code(request: HttpRequest, node_class_id: UUID) -> HttpResponse:
    """Make a one-time code for the agent and show it in the answer, this once."""
    node_class = _own(request, node_class_id)
    try:
        _, text = make_enrolment_code(seat=seat_of(request), node_class=node_class, now=market_time(request))
    except MarketError as error:
        messages.error(request, str(error), extra_tags=error.code)
        return redirect("onboarding:class", node_class.pk)
    return _page(request, node_class, code=text)  # nothing but this one answer holds the code


@require_POST
@provider_only
def unit_codes(request: HttpRequest, node_class_id: UUID) -> HttpResponse:
    """Make one-time codes for the provers of further units and show them in the answer, this once."""
    node_class = _own(request, node_class_id)
    try:
        asked = request.POST.get("codes", "")
        codes = make_unit_codes(
            seat=seat_of(request), node_class=node_class, codes=int(asked) if COUNT.fullmatch(asked) else 0,
            now=market_time(request),
        )  # fmt: skip
    except MarketError as error:
        messages.error(request, str(error), extra_tags=error.code)
        return redirect("onboarding:class", node_class.pk)
    return _page(request, node_class, unit_codes=codes)


@require_POST
@provider_only
def retire_unit(request: HttpRequest, prover_id: UUID) -> HttpResponse:
    """Take one unit's prover out."""
    prover = found_or_404(supply.find_unit_prover(prover_id, request.party))
    return _act(
        request, prover.node_class, f"Unit {prover.number} has no prover any more. Enrol another one for it.",
        lambda: retire_unit_prover(
            seat=seat_of(request), prover=prover, reason=request.POST.get("reason", ""), now=market_time(request)
        ),
    )  # fmt: skip


@require_POST
@provider_only
def unit_key(request: HttpRequest, prover_id: UUID) -> HttpResponse:
    """Make a one-time code for a new key of one unit and show it in the answer, this once."""
    prover = found_or_404(supply.find_unit_prover(prover_id, request.party))
    try:
        code = make_successor_code(seat=seat_of(request), prover=prover, now=market_time(request))
    except MarketError as error:
        messages.error(request, str(error), extra_tags=error.code)
        return redirect("onboarding:class", prover.node_class_id)
    return _page(request, prover.node_class, unit_codes=[code])


@require_POST
@provider_only
def decide(request: HttpRequest, enrolment_id: UUID) -> HttpResponse:
    """Accept a machine's key after comparing fingerprints, or refuse it."""
    rows = Enrolment.objects.select_related("node_class").filter(node_class__party=request.party)
    row = found_or_404(rows.filter(pk=enrolment_id).first())
    is_accepted = request.POST.get("act") == "accept"
    return _act(
        request, row.node_class, "The key is in use." if is_accepted else "The key is refused.",
        lambda: decide_enrolment(
            seat=seat_of(request), enrolment=row, is_accepted=is_accepted, now=market_time(request)
        ),
    )  # fmt: skip


@require_POST
@provider_only
def revoke(request: HttpRequest, node_class_id: UUID) -> HttpResponse:
    """End a lost or stolen machine key."""
    node_class = _own(request, node_class_id)
    return _act(
        request, node_class, "The key is ended: nothing it signs counts any more. Enrol a new one and prove anew.",
        lambda: revoke_machine_key(
            seat=seat_of(request), node_class=node_class, reason=request.POST.get("reason", ""),
            now=market_time(request),
        ),
    )  # fmt: skip


def steps_of(node_class: NodeClass, server: str, code: str = "") -> list[Step]:
    """What to run where the machines stand, in order, ready to be copied."""
    return [
        Step("Enrol", f"{AGENT} enrol --server {server} --token {code or 'CODE'}",
             "Makes the machine key and sends its public half. Then compare the fingerprint here and accept it."),
        Step("Try the benchmark", f"{AGENT} benchmark --preset full",
             "Proves before three throw-away verifiers on your own machine: what it measures, without a standing."),
        Step("Let the verifiers measure",
             f"{AGENT} benchmark --market --preset full --listen 0.0.0.0:8600 --advertise https://HOST:8600",
             "Asks for a panel, which measures the machine under its own clocks; then says which class was attested. "
             "The key of the API in GROVE_API_KEY."),
        Step("The same under Slurm", "sbatch marketplace/agent/examples/benchmark.sbatch",
             "One node of the class as a plain batch job, no root."),
        Step("Meter", f"{AGENT} meter --units {node_class.units} --listen 0.0.0.0:8601 "
             "--advertise tcp://HOST:8601",
             "Runs for as long as you sell: heartbeats, signed readings, answers to probes. Examples: systemd, Slurm."),
        *_step_of_units(node_class, server),
        Step("Bid", f"{AGENT} bid strategy.toml --server {server} --dry-run",
             f"Node class cls_{node_class.pk.hex}; the key of the API in GROVE_API_KEY. "
             "Without --dry-run it submits."),
    ]  # fmt: skip


def _step_of_units(node_class: NodeClass, server: str) -> list[Step]:
    if node_class.units == 1:
        return []
    return [
        Step("Prove each further unit",
             f"{AGENT} enrol --server {server} --token CODE && {AGENT} stand --listen 0.0.0.0:8603 "
             "--advertise tcp://HOST:8603",
             f"Once for each of the other {node_class.units - 1} units, with a code and a GROVE_AGENT_HOME of its own: "
             "a roll call finds all of them at work at one moment, or the class is not proven. Example: systemd."),
    ]  # fmt: skip


@dataclass(frozen=True)
class UnitLine:
    """One unit of a class: by which key it answers roll calls, when it was seen, and what came of the last call."""

    number: int
    prover: UnitProver | None
    public_key: bytes
    seen_at: datetime | None
    why_not: str | None  # in the last roll call; "" where it answered, None where it was not called


@dataclass(frozen=True)
class Units:
    """The units of a class that have a prover, those that did not answer first, and how many have none."""

    lines: list[UnitLine]
    missing: int
    called_until: datetime | None  # while a roll call is open that was not answered yet

    @property
    def codes_max(self) -> int:
        """How many codes may be made at once."""
        return min(self.missing, CODES_MAX)


def units_of(node_class: NodeClass, now: datetime) -> Units:
    """What the page says of each unit."""
    pulse, call = Pulse.objects.filter(node_class=node_class).first(), last_call(node_class)
    why_not = call.why_not if call else {}
    standing: list[tuple[UnitProver | None, bytes, datetime | None]] = []
    if node_class.machine_key:
        standing.append((None, bytes(node_class.machine_key), pulse.received_at if pulse else None))
    rows = node_class.unit_provers.filter(retired_at=None).order_by("number")
    standing += [(row, bytes(row.public_key), row.seen_at) for row in rows]
    lines = [
        UnitLine(number, prover, key, seen_at, why_not.get(number))
        for prover, key, seen_at in standing
        for number in [prover.number if prover else 1]
    ]
    lines.sort(key=lambda line: (not line.why_not, line.number))  # what did not answer is on the first page
    is_open = call is not None and call.closes_at > now and any(why_not.values())
    return Units(lines, max(0, node_class.units - len(lines)), call.closes_at if call and is_open else None)


def _page(
    request: HttpRequest, node_class: NodeClass, *, code: str = "", unit_codes: Sequence[str] = ()
) -> HttpResponse:
    now, server = market_time(request), request.build_absolute_uri("/").rstrip("/")
    benchmarks = list(node_class.benchmarks.all())
    live = supply.live_benchmark(node_class, now)
    on_chain = supply.brought_to_chain(node_class)
    units = units_of(node_class, now)
    waiting = node_class.enrolments.filter(decided_at=None).exclude(claimed_at=None).select_related("replaces")
    return render(request, "onboarding/class.html", {
        "node_class": node_class, "live": live, "now": now, "code": code, "quorum": attest_quorum(),
        "is_demo_panel": is_demo_panel(), "claim_bps": 10_000 + live.ops_gap_bps if live else 0,
        "roll": last_whole_roll(node_class) if live else None, "renew_from": supply.renewal_from(node_class),
        "ops_per_usd": ops_per_usd(live.ops_per_sec, node_class.resource_class.reference_price_micros) if live else 0,
        "proofs": supply.proofs_of(node_class, benchmarks[0]) if benchmarks else [], "benchmarks": benchmarks,
        "marks": [(each, on_chain.get(each.epoch)) for each in benchmarks],
        "waiting": waiting, "changes": node_class.key_changes.order_by("-id")[:10],
        "units": units, "page": page_of(request, units.lines, UNITS_PER_PAGE), "unit_codes": unit_codes,
        "steps": steps_of(node_class, server, code), "may_operate": "operate" in acts_of(seat_of(request)),
    })  # fmt: skip


def _own(request: HttpRequest, node_class_id: UUID) -> NodeClass:
    return found_or_404(supply.find_node_class(node_class_id, request.party))


def _act(request: HttpRequest, node_class: NodeClass, sentence: str, act: Any) -> HttpResponse:
    try:
        act()
    except MarketError as error:
        messages.error(request, str(error), extra_tags=error.code)
    else:
        messages.success(request, sentence)
    return redirect("onboarding:class", node_class.pk)
