"""One deliberate break for every rule that the database keeps about seats, invitations and changes of limits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from marketplace import models as m
from marketplace.maker import services as maker
from marketplace.parties.services import make_seat
from tests.architecture.broken_compliance import Break, breaking, fresh, later, made, now, quietly, seat, twice
from tests.journey import world

HASH = b"h" * 32


def invitation(**changes: Any) -> dict[str, Any]:
    return {"party": world.party("elm"), "email": "new@elm.example", "role": "approver", "secret_sha256": HASH,
            "invited_at": now(), "expires_at": later(7)} | changes  # fmt: skip


def again() -> None:
    made(m.Invitation, **invitation())
    made(m.Invitation, **invitation(secret_sha256=b"i" * 32))


def taken_back() -> m.Invitation:
    return made(m.Invitation, **invitation(withdrawn_at=now()))


def used_after_its_end() -> None:
    m.Invitation.objects.filter(pk=taken_back().pk).update(accepted_at=now(), withdrawn_at=None, seat=seat("elm"))


def gives_another_seat() -> None:
    row = made(m.Invitation, **invitation())
    m.Invitation.objects.filter(pk=row.pk).update(accepted_at=now(), seat=seat("elm"))


def change(**changes: Any) -> dict[str, Any]:
    return {"party": world.party("elm"), "kind": "rule", "threshold_micros": 9, "approvals_needed": 1,
            "needs_purchase_order": False, "proposed_by": seat("elm"), "proposed_at": now()} | changes  # fmt: skip


def decided(by: Callable[[], m.Seat], **changes: Any) -> dict[str, Any]:
    return change(decided_by=by(), decided_at=now(), is_let=True, reason="r", **changes)


def approver() -> m.Seat:
    return seat("elm", "approver")


def decide(by: Callable[[], m.Seat]) -> m.SpendingChange:
    row = made(m.SpendingChange, **change())
    m.SpendingChange.objects.filter(pk=row.pk).update(decided_by=by(), decided_at=now(), is_let=True, reason="r")
    return row


def decide_twice() -> None:
    m.SpendingChange.objects.filter(pk=decide(approver).pk).update(is_let=False)


def rule_raised(**changes: Any) -> None:
    """A second person is there, and was not asked."""
    approver()
    made(m.SpendingRule, party=world.party("elm"), threshold_micros=5, set_by=seat("elm"))
    m.SpendingRule.objects.filter(party__slug="elm").update(threshold_micros=9, set_at=now(), **changes)


def limit_raised() -> None:
    approver()
    purchaser = seat("elm", "purchaser")
    made(m.SeatLimit, seat=purchaser, order_max_micros=5, order_set_by=seat("elm"))
    m.SeatLimit.objects.filter(seat=purchaser).update(order_max_micros=None, set_at=now())


def approves_more() -> None:
    approver()
    made(m.SeatLimit, seat=seat("elm", "purchaser"), limit_micros=1, limit_set_by=seat("elm"), set_at=now())


def let_in(by: m.Seat, role: str) -> m.Seat:
    """A seat that came by an invitation of another one, just now."""
    came = make_seat(party=by.party, email="second@elm.example", password=None, role=role, now=now())
    row = made(m.Invitation, **invitation(party=by.party, email=came.user.email, role=role, invited_by=by))
    m.Invitation.objects.filter(pk=row.pk).update(accepted_at=now(), seat=came)
    return came


def let_by_a_second_name() -> None:
    approver()
    second = let_in(seat("elm"), "approver")
    decide(lambda: second)


def stops_without_a_word() -> None:
    m.Seat.objects.filter(pk=approver().pk).update(role="finance")


def house_of_two() -> tuple[m.Seat, m.Seat]:
    """An admin of the Foundation, and whom it let in."""
    m.Party.objects.filter(slug="elm").update(kind="foundation")
    admin = seat("elm", "admin")
    return admin, let_in(admin, "operations")


def limits_of_one_person() -> None:
    ann, ben = house_of_two()
    limits = maker_limits(ann)
    m.MakerLimits.objects.filter(pk=limits.pk).update(approved_by=ben.user.email, approved_at=now())


def phase_of_one_person() -> None:
    from tests.architecture.test_constraints import sign_off

    sign_off(*(each.user.email for each in house_of_two()))


def over_its_limit() -> None:
    purchaser = seat("alder", "purchaser")
    made(m.SeatLimit, seat=purchaser, order_max_micros=1, order_set_by=seat("alder"))
    fresh(posted_by=purchaser)
    fresh(quantity_units=2)


def last_owner_goes() -> None:
    m.User.objects.filter(seat=seat("elm")).update(is_active=False)


def maker_limits(by: m.Seat) -> m.MakerLimits:
    return maker.propose_limits(
        resource_classes=["H100"], notional_max_micros=1, inventory_max_unit_hours=1, loss_max_micros=1,
        spread_max_ppm=1, reason="r", person=by.user.email, now=now(),
    )  # fmt: skip


def two_market_makers() -> None:
    house = world.party("elm")
    m.Party.objects.filter(pk=house.pk).update(kind="foundation")
    ann, ben = seat("elm", "market_maker"), seat("elm", "auditor")
    m.Seat.objects.filter(pk=ben.pk).update(role="market_maker")
    limits = maker_limits(ann)
    m.MakerLimits.objects.filter(pk=limits.pk).update(approved_by=ben.user.email, approved_at=now())


CONSTRAINTS: dict[str, Break] = {
    "invitation_role_is_known": breaking(m.Invitation, invitation, role="king"),
    "invitation_email_is_in_small_letters": breaking(m.Invitation, invitation, email="New@elm.example"),
    "invitation_is_accepted_in_time_by_its_seat": breaking(
        m.Invitation, invitation, accepted_at=lambda: later(8), seat=lambda: seat("elm")),
    "invitation_has_one_end": breaking(
        m.Invitation, invitation, accepted_at=now, withdrawn_at=now, seat=lambda: seat("elm")),
    "one_open_invitation_per_address": again,
    "seat_sets_no_order_limit_of_its_own": lambda: quietly(
        lambda: made(m.SeatLimit, seat=seat("elm"), order_max_micros=1, order_set_by=seat("elm"))),
    "spending_change_is_of_a_rule_or_of_a_seat": breaking(m.SpendingChange, change, kind="order_limit"),
    "spending_change_says_who_decided_and_why": breaking(m.SpendingChange, lambda: decided(approver), reason=""),
    "spending_change_is_let_by_another": breaking(m.SpendingChange, lambda: decided(lambda: seat("elm"))),
    "one_spending_change_waits_at_a_time": twice(m.SpendingChange, change),
    "user_that_is_off_says_since_when": lambda: quietly(
        lambda: m.User.objects.filter(pk=approver().user_id).update(is_active=False)),
    "seat_that_approves_has_not_stopped": lambda: quietly(
        lambda: m.Seat.objects.filter(pk=approver().pk).update(approved_until=now())),
    "password_link_is_made_by_another": lambda: quietly(
        lambda: made(m.PasswordLink, seat=seat("elm"), made_by=seat("elm"), made_at=now())),
}  # fmt: skip

RULES: dict[str, Break] = {
    "the_last_owner_stays": last_owner_goes,
    "an_invitation_is_used_once": used_after_its_end,
    "an_invitation_gives_the_seat_it_names": gives_another_seat,
    "spending_change_stays_as_proposed": decide_twice,
    "spending_change_is_decided_by_who_may": lambda: quietly(lambda: decide(lambda: seat("elm", "finance"))),
    "spending_rule_is_loosened_by_two": rule_raised,
    "order_limit_is_loosened_by_two": limit_raised,
    "approving_limit_is_raised_by_two": approves_more,
    "spending_change_is_let_by_someone_apart": let_by_a_second_name,
    "a_seat_that_stops_approving_says_when": stops_without_a_word,
    "maker_limits_are_let_by_someone_apart": limits_of_one_person,
    "phase_is_signed_by_people_apart": phase_of_one_person,
    "demand_over_its_seats_limit_is_approved": over_its_limit,
    "maker_limits_are_let_by_another_role": two_market_makers,
}
