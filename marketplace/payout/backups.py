"""What a failed lease gives back for its backup: the fee of the hours that moved, by a settle call of its own."""

from __future__ import annotations

from datetime import datetime

from django.db import transaction

from ledger.ids import uuid7
from ledger.rails import sender
from ledger.rails.evm import chain
from ledger.services import hold_posting, settle_postings
from marketplace.catalogue.models import Window
from marketplace.demand.funding import origin_of
from marketplace.escrow.backup_models import StepIn
from marketplace.escrow.backups import HOLDS_KEPT, own_hold_id, own_micros
from marketplace.governance.services import record
from marketplace.payout import claims
from marketplace.payout.models import Settlement
from marketplace.payout.refusals import refused_calls
from marketplace.payout.services import intent_key, last_epoch


@transaction.atomic
def give_back_rests(*, window: Window, now: datetime) -> int:
    """Ask the chain to give back what the backups of failed leases need; returns how many calls.

    In the books the money is on hold again in the same moment, so that nothing else can take it. Nothing is asked while
    a refused call keeps its epoch.
    """
    locked = Window.objects.select_for_update().get(pk=window.pk)
    waiting = StepIn.objects.select_for_update(of=("self",)).filter(
        lease__window=locked, state="returning", return_key="", returned_micros__gt=0
    )
    related = ("lease__buyer", "lease__node_class", "lease__demand", "lease__window__clearing")
    due = [] if refused_calls() else list(waiting.select_related(*related).order_by("pk"))
    epoch = last_epoch() if due else 0
    for place, step_in in enumerate(due, start=1):
        _give_back(step_in, epoch + place, now)
    return len(due)


def _give_back(step_in: StepIn, epoch: int, now: datetime) -> None:
    lease, micros = step_in.lease, step_in.returned_micros
    owed = claims.owed_by_class()
    settlement = Settlement.objects.create(
        id=uuid7(now), window=lease.window, epoch=epoch, intent_key=intent_key(epoch), root=claims.tree_of(owed).root,
        owed=owed, made_at=now, earned_micros=0, refunded_micros=micros, fees_micros=0,
    )  # fmt: skip
    index = chain().call("escrow", "account_of", lease.buyer.chain_address)[0]
    plan = settle_postings(
        lease=lease.pk, buyer=lease.buyer_id, window=lease.window_id, provider=lease.provider_id,
        node_class=lease.node_class_id, earned=0, holdback=0, fee=0, returned=micros, credit=0, period="step-in",
        origin=origin_of(lease.demand),
    )  # fmt: skip
    if own_micros(step_in):
        plan.append(hold_posting(
            id=own_hold_id(step_in), party=lease.buyer_id, window=lease.window_id, amount=own_micros(step_in),
            timeout_at=lease.window.ends_at + HOLDS_KEPT, origin=origin_of(lease.demand),
        ))  # fmt: skip
    sender.submit(
        key=settlement.intent_key, role="operator", contract="escrow", function="settle",
        args=[epoch, [index << 128 | micros], [lease.node_class.chain_class << 192 | micros], 0, settlement.root,
              bytes(lease.window.clearing.bundle_hash)],
        plan=plan, now=now,
    )  # fmt: skip
    step_in.return_key = settlement.intent_key
    step_in.save(update_fields=["return_key"])
    record(actor="market", action="give_back_rest", subject=lease.pk, reason=f"epoch {epoch}", now=now,
           returned_micros=micros)  # fmt: skip
