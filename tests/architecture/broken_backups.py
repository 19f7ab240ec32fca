"""One deliberate break for every rule that the database keeps about backups that step in."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from marketplace import models as m
from tests.architecture.broken_compliance import Break, breaking, made, now, twice, unguarded
from tests.journey import world
from tests.owner import behind_the_triggers

FROM_SLOT, STRIKE = 5, 1_700_000


def failed() -> m.Lease:
    """A lease whose machine has failed now; its backup is another bid, with as many units left."""
    lease = world.lease("tardy")
    if not m.LeaseHealth.objects.filter(lease=lease).exists():
        made(m.LeaseHealth, lease=lease, state="FAILED", since=now(), base_state="FAILED", base_since=now())
    return lease


def step_in(**changes: Any) -> dict[str, Any]:
    lease = failed()
    since = m.LeaseHealth.objects.get(lease=lease).since
    return {"lease": lease, "failed_at": since, "from_slot": FROM_SLOT, "state": "returning", "rest_micros": 9,
            "returned_micros": 9, "fee_micros": 9, "hold_micros": 9, "decided_at": now()} | changes  # fmt: skip


def refused(**changes: Any) -> dict[str, Any]:
    return step_in(state="refused", code="c", sentence="s") | changes


def run(**changes: Any) -> dict[str, Any]:
    """A run of the backup of `tardy`: granite, with four units more in its bid."""
    award, bid = m.Award.objects.get(demand__reference="tardy"), world.bid("granite")
    with behind_the_triggers():
        m.Bid.objects.filter(pk=bid.pk).update(quantity_units=8)
        m.Standing.objects.filter(node_class=bid.node_class).update(state="PROVEN")
        m.Backup.objects.get_or_create(award=award, defaults={"bid": bid, "strike_price_micros": STRIKE})
    hours = award.end_slot - FROM_SLOT
    row = m.StepIn.objects.filter(state="returning").first() or made(m.StepIn, **step_in())
    return {"step_in": row, "award": award, "demand": award.demand, "bid": bid, "start_slot": FROM_SLOT,
            "end_slot": award.end_slot, "units": award.units, "slot_prices_micros": [STRIKE] * hours,
            "amount_micros": award.units * STRIKE * hours} | changes  # fmt: skip


def run_with(units_of_bid: int = 8, units_of_class: int = 8) -> None:
    columns = run()
    with behind_the_triggers():
        m.Bid.objects.filter(pk=columns["bid"].pk).update(quantity_units=units_of_bid)
        m.NodeClass.objects.filter(pk=columns["bid"].node_class_id).update(units=units_of_class)
    made(m.StepInRun, **columns)


def walks(*states: str) -> Break:
    def write() -> None:
        row = made(m.StepIn, **step_in())
        for state in states:
            m.StepIn.objects.filter(pk=row.pk).update(state=state, code="c" if state == "fallen" else "")

    return write


def lease_of(row: m.StepIn, **changes: Any) -> None:
    lease = world.lease("tardy")
    lease.pk, lease.step_in = None, row
    made(m.Lease, **{field.name: getattr(lease, field.name) for field in m.Lease._meta.fields if field.name != "id"}
         | changes)  # fmt: skip


def two_leases() -> None:
    with behind_the_triggers():
        row = made(m.StepIn, **step_in())
        lease_of(row)
    with behind_the_triggers():
        lease_of(row)


def charged_to_another() -> None:
    columns = run()
    made(m.StepInRun, **columns)
    invoice = m.Invoice.objects.exclude(party=columns["demand"].party).first()
    made(m.InvoiceLine, invoice=invoice, kind="capacity", backup_run=m.StepInRun.objects.get(),
         amount_micros=columns["amount_micros"])  # fmt: skip


def unguarded_row(model: Any, columns: dict[str, Any]) -> None:
    """Write a row that a trigger would refuse under another name; its columns are made ready before."""
    unguarded(lambda: made(model, **columns))


def stepped_in_twice() -> None:
    made(m.StepIn, **step_in())
    unguarded_row(m.StepIn, step_in(failed_at=now() + timedelta(hours=1)))


CONSTRAINTS: dict[str, Break] = {
    "one_decision_per_failure": twice(m.StepIn, refused),
    "a_lease_is_stepped_in_for_once": stepped_in_twice,
    "step_in_state_is_known": lambda: unguarded_row(m.StepIn, step_in(state="asleep")),
    "step_in_that_does_not_run_says_why": breaking(m.StepIn, refused, code=""),
    "step_in_moves_no_negative_amount": breaking(m.StepIn, step_in, fee_micros=-1),
    "step_in_is_paid_by_what_came_back": breaking(m.StepIn, step_in, fee_micros=10, hold_micros=10),
    "step_in_costs_no_more_than_was_held": breaking(m.StepIn, step_in, spent_micros=1),
    "backup_run_has_units_and_money": lambda: unguarded_row(m.StepInRun, run(units=0)),
    "backup_run_runs_forward": lambda: unguarded_row(m.StepInRun, run(start_slot=30)),
    "one_lease_per_backup": two_leases,
    "lease_ends_inside_its_slots": lambda: ends_at(30),
}
RULES: dict[str, Break] = {
    "step_in_starts_with_a_decision": breaking(m.StepIn, step_in, state="running"),
    "step_in_is_for_a_failed_lease": breaking(m.StepIn, step_in, failed_at=lambda: now() - timedelta(hours=1)),
    "step_in_follows_its_path": walks("running"),
    "backup_run_is_the_one_agreed": breaking(m.StepInRun, run, amount_micros=1),
    "backup_run_fits_what_its_bid_has_left": lambda: run_with(units_of_bid=7),
    "backup_run_fits_what_its_machines_have_left": lambda: run_with(units_of_class=7),
    "lease_ends_where_its_backup_begins": lambda: ends_at(FROM_SLOT + 1, guarded=True),
    "backup_lease_is_the_one_agreed": lambda: lease_of(made(m.StepIn, **step_in())),
    "invoice_line_is_a_backup_of_its_buyer": charged_to_another,
}


def ends_at(slot: int, *, guarded: bool = False) -> None:
    lease = failed()
    made(m.StepIn, **step_in(from_slot=FROM_SLOT))

    def change() -> None:
        m.Lease.objects.filter(pk=lease.pk).update(ended_slot=slot)

    change() if guarded else unguarded(change)
