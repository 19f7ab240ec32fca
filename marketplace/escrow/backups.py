"""The money of a backup: what came back from the failed lease is locked again, under the buyer's same rules.

The contract counts what a mandate spends and never what comes back of it, so the same money cannot be spent under the
same mandate twice. The mandate of a backup binds the same window, zone, tier and parents, and exactly the backup's fee.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime, timedelta
from uuid import UUID

from django.db import transaction
from django.db.models import Max

from ledger.faults import point
from ledger.ids import uuid7, uuid_from
from ledger.models import ChainIntent
from ledger.rails import sender
from ledger.services import Posting, post_hold_posting, void_hold
from marketplace.catalogue.models import Window
from marketplace.demand.funding import origin_of
from marketplace.escrow.backup_models import StepIn, StepInRun
from marketplace.escrow.models import Lease, LockBatch
from marketplace.escrow.packs import write_packs
from marketplace.escrow.services import chain_batch_no, lease_of, mandate_call, next_mandate
from marketplace.governance.services import record
from marketplace.notices.services import tell_parties
from marketplace.supply.models import Bid

# A lock cannot be mined once its window is over, and is known to have failed long before its hold ends.
HOLDS_KEPT = timedelta(days=7)


def extra_hold_id(step_in: StepIn) -> UUID:
    """The hold of what a backup costs beyond what came back."""
    return uuid_from("step-in", step_in.pk, "extra")


def own_hold_id(step_in: StepIn) -> UUID:
    """The hold of what came back and is locked again."""
    return uuid_from("step-in", step_in.pk, "own")


def own_micros(step_in: StepIn) -> int:
    """What of the backup's fee is paid by what came back, micro-USD."""
    return step_in.fee_micros - step_in.extra_micros


@transaction.atomic
def lock_backups(*, window: Window, now: datetime) -> int:
    """Ask the chain to lock the money of backups whose share of it has come back; returns how many leases were made."""
    locked = Window.objects.select_for_update().get(pk=window.pk)
    waiting = StepIn.objects.select_for_update(of=("self",)).filter(lease__window=locked, state="returning")
    made = 0
    for step_in in waiting.select_related("lease__demand__sla", "lease__buyer").order_by("pk"):
        if _has_come_back(step_in):
            made += _lock(locked, step_in, now)
    if made:
        write_packs(window=locked, now=now)
        point("escrow.backups.before_commit")
    return made


def _has_come_back(step_in: StepIn) -> bool:
    if step_in.returned_micros == 0:
        return True
    return ChainIntent.objects.filter(key=step_in.return_key, state="final").exists()


def _lock(window: Window, step_in: StepIn, now: datetime) -> int:
    demand = step_in.lease.demand
    runs: dict[Bid, list[StepInRun]] = defaultdict(list)
    related = ("bid__node_class__standing", "bid__party", "award__clearing")
    for run in step_in.runs.select_related(*related).order_by("bid__accepted_rank", "start_slot"):
        runs[run.bid].append(run)
    mandate = next_mandate(window=window, demand=demand, spend_micros=step_in.fee_micros, now=now)
    loads: dict[int, int] = defaultdict(int)
    for bid, mine in runs.items():
        loads[bid.node_class.chain_class] += sum(run.amount_micros for run in mine)
    classes = sorted(loads)
    ordinal = 1 + (window.lock_batches.aggregate(top=Max("ordinal"))["top"] or 0)
    batch = LockBatch.objects.create(
        id=uuid7(now), window=window, ordinal=ordinal, intent_key=f"lock:{window.number}:{ordinal}",
        buyers=[mandate.signed["buyer"]], classes=classes, total_micros=step_in.fee_micros,
        lines=[str(at << 64 | loads[number]) for at, number in enumerate(classes)],
    )  # fmt: skip
    leases = [
        lease_of(window, demand, bid, mine, mandate, batch, classes.index(bid.node_class.chain_class), now,
                 step_in=step_in)
        for bid, mine in runs.items()
    ]  # fmt: skip
    Lease.objects.bulk_create(leases)
    step_in.state, step_in.mandate = "locking", mandate
    step_in.save(update_fields=["state", "mandate"])
    sender.submit(
        key=batch.intent_key, role="operator", contract="escrow", function="lock",
        args=[window.number, [mandate_call(mandate)], classes, [int(line) for line in batch.lines]],
        plan=_plan(step_in), now=now,
    )  # fmt: skip
    return len(leases)


def _plan(step_in: StepIn) -> Sequence[Posting]:
    lease = step_in.lease
    return [
        post_hold_posting(hold_id=hold_id, party=lease.buyer_id, window=lease.window_id, amount=micros,
                          origin=origin_of(lease.demand))
        for hold_id, micros in _holds(step_in)
    ]  # fmt: skip


def _holds(step_in: StepIn) -> list[tuple[UUID, int]]:
    both = ((own_hold_id(step_in), own_micros(step_in)), (extra_hold_id(step_in), step_in.extra_micros))
    return [(hold_id, micros) for hold_id, micros in both if micros]


@transaction.atomic
def confirm_backups(*, window: Window, now: datetime) -> int:
    """Start the leases of backups whose lock is final, or give the buyer its money where it was refused."""
    locked = Window.objects.select_for_update().get(pk=window.pk)
    waiting = StepIn.objects.select_for_update(of=("self",)).filter(lease__window=locked, state="locking")
    ended = 0
    for step_in in waiting.select_related("lease__demand", "lease__window").order_by("pk"):
        batch = LockBatch.objects.get(leases__in=step_in.leases.all()[:1])
        call = ChainIntent.objects.get(key=batch.intent_key)
        if call.state == "final":
            batch.chain_no, batch.locked_at = chain_batch_no(call), now
            batch.save(update_fields=["chain_no", "locked_at"])
            _run(step_in, now)
        elif call.state == "reverted":
            _fall(step_in, call.revert_reason, now)
        else:
            continue
        ended += 1
    return ended


def _run(step_in: StepIn, now: datetime) -> None:
    leases = list(step_in.leases.select_related("demand", "provider"))
    step_in.leases.update(state="locked")
    step_in.state, step_in.ended_at = "running", now
    step_in.save(update_fields=["state", "ended_at"])
    begins = f"{step_in.lease.window.slot_at(step_in.from_slot):%Y-%m-%d %H:%M} UTC"
    for lease in leases:
        tell_parties(
            parties={lease.buyer_id, lease.provider_id}, about=f"backup-locked:{lease.pk}", code="backup_locked",
            now=now, sentence=f"{lease.demand.reference}: the money for {lease.provider.name} is locked; its hours "
            f"begin at {begins}.",
        )  # fmt: skip
    record(actor="chain", action="backup_locked", subject=step_in.lease_id, reason="locked on chain", now=now,
           leases=len(leases), fee_micros=step_in.fee_micros)  # fmt: skip


def _fall(step_in: StepIn, sentence: str, now: datetime) -> None:
    """The lock was refused: the failed lease has ended all the same, and what came back is the buyer's."""
    for hold_id, _ in _holds(step_in):
        void_hold(id=hold_id, now=now)
    lease = step_in.lease
    step_in.leases.update(state="refused", refusal=sentence[:200])
    step_in.state, step_in.code, step_in.sentence, step_in.ended_at = "fallen", "lock_refused", sentence[:300], now
    step_in.save(update_fields=["state", "code", "sentence", "ended_at"])
    record(actor="chain", action="backup_not_locked", subject=lease.pk, reason=sentence, now=now)
    providers = set(step_in.leases.values_list("provider_id", flat=True))
    tell_parties(
        parties={lease.buyer_id} | providers, about=f"backup-fallen:{step_in.pk}", code="backup_not_locked", now=now,
        sentence=f"{lease.demand.reference}: the money for the backup could not be locked ({sentence}). What came back "
        "from the failed lease is free again.",
    )  # fmt: skip
