"""Every invariant of books, chain and certificates, looked at over the live data; `manage.py verify` prints them.

Nothing here trusts a counter or a flag: what can be recomputed is recomputed from the rows it came from.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime

from django.db.models import F

from ledger.epochs import merkle_root
from ledger.models import ChainIntent
from ledger.rails import mirror
from ledger.rails.anchors import check_anchors
from ledger.rails.base import Chain
from ledger.rails.card_checks import check_card_rail
from ledger.rails.evm import chain
from ledger.rails.integrity import check_store
from ledger.reconcile import check_books, compare_when_still
from marketplace.agent.keys import is_signed_by
from marketplace.agent.readings import SIGN_PREFIX
from marketplace.agent.statements import ProbeStatement, prefix_of
from marketplace.catalogue.models import WindowTransition
from marketplace.catalogue.services import NEXT_STATES
from marketplace.clearing.models import Clearing
from marketplace.clearing.services import verify_published
from marketplace.delivery.evidence_models import ProbeDay, ProbeReport, SlotTally, WitnessKey
from marketplace.delivery.models import Reading
from marketplace.delivery.tallies import recount, statements_hash
from marketplace.escrow.models import Lease
from marketplace.escrow.pack_models import LeasePack
from marketplace.governance.services import first_broken_line
from marketplace.oversight.packs import wrong_packs
from marketplace.payout.invoice_models import Invoice
from marketplace.payout.invoices import wrong_receivables
from marketplace.payout.members import wrong_shares
from marketplace.payout.models import MemberShare, SettlementLine
from marketplace.sla.evidence import leaves_of
from marketplace.sla.models import EvidenceDay, Verdict
from marketplace.sla.services import evidence_hash
from marketplace.slashing.models import SlashCase
from pricing.health import is_revealed

TOLD = ("provider_up", "buyer_up", "probe_valid", "probe_failed", "down_word", "known_word", "unknown_word", "causes",
        "echo_ms")  # fmt: skip


@dataclass(frozen=True, slots=True)
class Finding:
    """One invariant: whether it holds, and what was looked at or what is wrong."""

    name: str
    ok: bool
    detail: str
    looked: bool = True  # False where nobody could be asked: then it is neither right nor wrong


def check_everything(*, now: datetime, tell: Callable[[str], None] = lambda part: None) -> list[Finding]:
    """Look at every invariant; an intact market gives findings that are all ok.

    Comparing books and chain keeps its row, and halts payouts on a difference, as it does every hour."""
    findings: list[Finding] = []
    for part, look in PARTS:
        tell(part)
        try:
            findings += look(now)
        except Exception as error:  # damaged data may fail anywhere: a finding too, and the rest is looked at
            findings.append(Finding(f"{part} can be read", False, f"{type(error).__name__}: {error}"))
    return findings


def _books(now: datetime) -> Iterator[Finding]:
    for found in check_books(now=now):
        yield Finding(f"books {found.invariant}", found.ok, found.detail)


def _books_and_chain(now: datetime) -> Iterator[Finding]:
    differences = compare_when_still(mirror.read_words, now=now)
    worst = "; ".join(f"{d.figure} {d.subject}: books {d.books}, chain {d.chain}" for d in differences[:3])
    yield Finding("books equal chain", not differences, worst or "every party, class and contract balance")
    roots = check_anchors()
    yield Finding("the roots of the books are those on chain", roots.ok, roots.detail)


def _card_rail(now: datetime) -> Iterator[Finding]:
    for found in check_card_rail(now=now):
        yield Finding(f"card {found.invariant}", found.ok, found.detail, found.looked)


def _chain(now: datetime) -> Iterator[Finding]:
    here: Chain = chain()
    if here.embedded is not None:
        yield from (Finding(found.invariant, found.ok, found.detail) for found in check_store(here.embedded))
    open_intents = ChainIntent.objects.filter(state__in=("queued", "signed", "sent")).count()
    yield Finding("nothing in flight is forgotten", True, f"{open_intents} transactions are on their way")


def _certificates(now: datetime) -> Iterator[Finding]:
    here = chain()
    for clearing in Clearing.objects.select_related("window").order_by("window__number"):
        wrong = list(verify_published(clearing=clearing))
        anchored = bytes(here.call("anchor", "bundle_of", clearing.window.number))
        if anchored != bytes(32) and anchored != bytes(clearing.bundle_hash):
            wrong.append("anchor: the chain keeps another bundle hash")
        detail = "; ".join(wrong[:3]) or f"welfare {clearing.welfare_micros} micro-USD, gap {clearing.gap_micros}"
        yield Finding(f"certificate of {clearing.window.name}", not wrong, detail)


def _leases(now: datetime) -> Iterator[Finding]:
    wrong = 0
    leases = Lease.objects.prefetch_related("demand__awards", "step_in__runs")
    for lease in leases:
        runs = lease.demand.awards.all() if lease.step_in is None else lease.step_in.runs.all()
        mine = sum(run.amount_micros for run in runs if run.bid_id == lease.bid_id)
        wrong += mine != lease.fee_micros
    yield Finding("each lease costs what was awarded", not wrong, f"{wrong} of {len(leases)} leases differ")
    split = SettlementLine.objects.exclude(
        lease__fee_micros=F("earned_micros") + F("returned_micros") + F("credit_micros")
    ).count()
    yield Finding("paid + returned + credited = locked, for each lease", not split, f"{split} lines differ")


def _members(now: datetime) -> Iterator[Finding]:
    faults = list(wrong_shares())
    told = "; ".join(f"payment {each.reference}: {each.sentence}" for each in faults[:3])
    looked = MemberShare.objects.count()
    yield Finding("each consortium's members were paid their split", not faults, told or f"{looked} parts of payments")


def _invoices(now: datetime) -> Iterator[Finding]:
    wrong = wrong_receivables()
    told = "; ".join(wrong[:3]) or f"{Invoice.objects.exclude(order=None).count()} invoices behind orders"
    yield Finding("what is open on each invoice is open in the books", not wrong, told)


def _packs(now: datetime) -> Iterator[Finding]:
    wrong = list(wrong_packs())
    told = "; ".join(wrong[:3]) or f"{LeasePack.objects.count()} packs"
    yield Finding("each documentation pack is the one on the trail", not wrong, told)


def _readings(now: datetime) -> Iterator[Finding]:
    rows = Reading.objects.exclude(report=b"").select_related("lease__node_class")
    forged = total = 0
    for row in rows.iterator(chunk_size=2000):
        total += 1
        key = bytes(row.lease.node_class.machine_key)
        forged += not is_signed_by(key, SIGN_PREFIX + bytes(row.report), bytes(row.signature))
    yield Finding("every reading is signed by its machine", not forged, f"{forged} of {total} are not")


def _delivery(now: datetime) -> Iterator[Finding]:
    keys: dict[object, list[bytes]] = defaultdict(list)
    for key in WitnessKey.objects.all():
        keys[key.party_id].append(bytes(key.public_key))
    forged = probes = 0
    for row in ProbeReport.objects.iterator(chunk_size=2000):
        probes += 1
        message = prefix_of(ProbeStatement, bytes(row.body)) + bytes(row.body)
        forged += not any(is_signed_by(key, message, bytes(row.signature)) for key in keys[row.verifier_id])
    yield Finding("every probe is signed by its verifier", not forged, f"{forged} of {probes} are not")
    wrong = slots = 0
    for tally in SlotTally.objects.select_related(
        "lease__window", "lease__provider__parent", "lease__buyer__parent"
    ).iterator(chunk_size=500):
        slots += 1
        wrong += not _stands(tally)
    yield Finding("every live hour follows from its statements", not wrong, f"{wrong} of {slots} do not")
    days = [row for row in ProbeDay.objects.all() if row.revealed]
    broken = sum(
        not is_revealed(bytes(row.revealed), day=row.day.isoformat(), commitment=bytes(row.commitment)) for row in days
    )
    yield Finding("every shown day secret is the committed one", not broken, f"{broken} of {len(days)} are not")


def _stands(tally: SlotTally) -> bool:
    """Whether a tally is what its statements come to; a rated one, with what was decided of its held minutes."""
    fresh = recount(tally)
    if any(getattr(tally, name) != getattr(fresh, name) for name in TOLD):
        return False
    if tally.rated_at is None:
        return (tally.billable_word, tally.held_word) == (fresh.billable_word, fresh.held_word)
    more = tally.billable_word & ~fresh.billable_word
    reading = Reading.objects.filter(lease=tally.lease_id, slot=tally.slot).first()
    return (
        tally.billable_word & fresh.billable_word == fresh.billable_word
        and more & ~(fresh.held_word & ~fresh.down_word) == 0
        and reading is not None
        and reading.earned_micros == tally.billed_micros
        and bytes(reading.statements_hash or b"") == statements_hash(tally)
    )


def _verdicts(now: datetime) -> Iterator[Finding]:
    wrong = 0
    verdicts = Verdict.objects.select_related("lease").prefetch_related("lease__readings", "lease__rechecks")
    for verdict in verdicts:
        rows = sorted(verdict.lease.readings.all(), key=lambda row: row.slot)
        checks = sorted(verdict.lease.rechecks.all(), key=lambda row: row.interval)
        sums = (sum(row.earned_micros for row in rows), sum(row.above_ceiling_micros for row in rows))
        is_whole = evidence_hash(verdict.lease, rows, checks) == bytes(verdict.evidence_hash)
        wrong += not is_whole or (verdict.earned_micros, verdict.above_ceiling_micros) != sums
    yield Finding("every verdict rests on its readings", not wrong, f"{wrong} of {len(verdicts)} do not")
    unarmed = SlashCase.objects.filter(outcome__in=("requested", "executed"), verdict__lease__is_armed=False).count()
    yield Finding("nobody unproven was slashed", not unarmed, f"{unarmed} cases")


def _evidence(now: datetime) -> Iterator[Finding]:
    here, wrong = chain(), 0
    days = list(EvidenceDay.objects.all())
    for row in days:
        kept = bytes(here.call("anchor", "bundle_of", row.anchor_number))
        roots = {bytes(row.root), merkle_root(leaves_of(row.day))} | ({kept} if kept != bytes(32) else set())
        wrong += len(roots) != 1
    yield Finding("every sealed day of evidence has its root on chain", not wrong, f"{wrong} of {len(days)} differ")


def _trail(now: datetime) -> Iterator[Finding]:
    broken = first_broken_line()
    yield Finding(
        "the audit trail is whole", broken is None, f"line {broken} is wrong" if broken else "every link holds"
    )
    jumps = [row for row in WindowTransition.objects.all() if row.to_state not in NEXT_STATES.get(row.from_state, ())]
    yield Finding("no window skipped a state", not jumps, f"{len(jumps)} jumps")


PARTS: tuple[tuple[str, Callable[[datetime], Iterator[Finding]]], ...] = (
    ("books", _books),
    ("chain", _chain),
    ("books against chain", _books_and_chain),
    ("card rail", _card_rail),
    ("certificates", _certificates),
    ("leases", _leases),
    ("members", _members),
    ("invoices", _invoices),
    ("packs", _packs),
    ("readings", _readings),
    ("delivery", _delivery),
    ("verdicts", _verdicts),
    ("evidence", _evidence),
    ("trail", _trail),
)
