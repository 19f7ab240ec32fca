"""One deliberate break for every rule that the database keeps about machine keys and the caps of API keys."""

from __future__ import annotations

from typing import Any

from ledger.ids import uuid7
from marketplace import models as m
from marketplace.parties.services import issue_api_key
from tests.architecture.broken_compliance import Break, breaking, later, now, twice
from tests.journey import world
from tests.owner import behind_the_triggers

NEW = b"n" * 32


def api_key() -> m.ApiKey:
    return issue_api_key(party=world.party("alder"), label="bot", may_write=True, now=now())[0]


def use() -> dict[str, Any]:
    standing = m.ApiKey.objects.first() or api_key()
    return {"key": standing, "kind": "bid", "subject": world.party("alder").pk, "at": now()}


def change(**columns: Any) -> dict[str, Any]:
    return {
        "node_class": world.node_class("sprout"), "kind": "rotated", "public_key": NEW, "actor": "a", "reason": "r",
        "previous": bytes(world.node_class("sprout").machine_key), "at": now(),
    } | columns  # fmt: skip


def enrolment() -> dict[str, Any]:
    return {"node_class": world.node_class("sprout"), "code_sha256": NEW, "made_by": "a", "made_at": now(),
            "expires_at": later()}  # fmt: skip


def cap_at_nothing() -> None:
    key = api_key()
    m.ApiKey.objects.filter(pk=key.pk).update(notional_day_max_micros=0)


def take_a_key_twice() -> None:
    with behind_the_triggers():
        twice(m.MachineKeyChange, change)()


def change_a_key_unseen() -> None:
    m.NodeClass.objects.filter(party__slug="sprout").update(machine_key=NEW)


def rise_without_a_key() -> None:
    node_class = world.node_class("sprout")
    ended = change(kind="revoked", public_key=bytes(node_class.machine_key), previous=None)
    m.MachineKeyChange.objects.create(**ended)
    m.Standing.objects.filter(node_class=node_class).update(state="PROBATION")


def claim_again() -> None:
    row = m.Enrolment.objects.create(id=world.party("alder").pk, **enrolment(), public_key=NEW, claimed_at=now())
    m.Enrolment.objects.filter(pk=row.pk).update(public_key=b"o" * 32)


def unit(key: bytes = NEW, **columns: Any) -> m.UnitProver:
    """One more unit's prover of a class whose code was accepted for that key."""
    node_class = world.node_class("basalt")
    row = m.Enrolment.objects.create(
        id=uuid7(now()), node_class=node_class, is_for_a_unit=True, code_sha256=key, made_by="a", made_at=now(),
        expires_at=later(), public_key=key, claimed_at=now(), is_accepted=True, decided_by="a", decided_at=now(),
    )  # fmt: skip
    facts = {"enrolment": row, "node_class": node_class, "number": 99, "public_key": key, "enrolled_at": now()}
    return m.UnitProver.objects.create(**facts | columns)


def retire_for_nothing() -> None:
    m.UnitProver.objects.filter(number=2).update(retired_at=now())


def let_a_unit_in_by_a_code_of_the_meter() -> None:
    row = m.Enrolment.objects.create(
        id=uuid7(now()), node_class=world.node_class("basalt"), code_sha256=b"o" * 32, made_by="a", made_at=now(),
        expires_at=later(), public_key=b"o" * 32, claimed_at=now(), is_accepted=True, decided_by="a", decided_at=now(),
    )  # fmt: skip
    m.UnitProver.objects.create(
        enrolment=row, node_class=row.node_class, number=98, public_key=b"o" * 32, enrolled_at=now()
    )


def succeed_another_unit() -> None:
    """A new key of unit 2 that is let in for unit 99, beside the old one."""
    row = unit(b"p" * 32).enrolment
    second = m.UnitProver.objects.get(node_class=row.node_class, number=2, retired_at=None)
    columns = {name: getattr(row, name) for name in (
        "node_class", "is_for_a_unit", "made_by", "made_at", "expires_at", "claimed_at", "is_accepted", "decided_by",
        "decided_at",
    )}  # fmt: skip
    code = m.Enrolment.objects.create(id=uuid7(now()), code_sha256=NEW, public_key=NEW, replaces=second, **columns)
    m.UnitProver.objects.create(
        enrolment=code, node_class=row.node_class, number=98, public_key=NEW, enrolled_at=now()
    )


def replace_by_the_meter() -> None:
    second = m.UnitProver.objects.filter(number=2).first()
    m.Enrolment.objects.create(id=uuid7(now()), **enrolment(), replaces=second)


def rename_a_unit() -> None:
    m.UnitProver.objects.filter(number=2).update(public_key=NEW)


def meter_with_a_units_key() -> None:
    m.MachineKeyChange.objects.create(**change(public_key=bytes(unit().public_key)))


def name_a_person_twice() -> None:
    person = m.User.objects.first()
    m.User.objects.filter(pk=person.pk).update(email=person.email.upper())


CONSTRAINTS: dict[str, Break] = {
    "user_email_is_in_small_letters": name_a_person_twice,
    "a_cap_of_a_key_is_at_least_one": cap_at_nothing,
    "key_use_is_an_order": breaking(m.KeyUse, use, kind="mood"),
    "an_order_is_placed_by_one_key": twice(m.KeyUse, use),
    "machine_key_change_is_known": breaking(m.MachineKeyChange, change, kind="lost", previous=None,
                                            public_key=lambda: change()["previous"]),
    "machine_key_change_names_who_and_why": breaking(m.MachineKeyChange, change, reason=""),
    "a_rotation_and_nothing_else_follows_a_key": breaking(
        m.MachineKeyChange, change, kind="revoked", public_key=lambda: change()["previous"]),
    "a_machine_key_is_taken_into_use_once": take_a_key_twice,
    "enrolment_code_ends_after_it_begins": breaking(m.Enrolment, enrolment, expires_at=lambda: later(-1)),
    "enrolment_is_claimed_by_a_key": breaking(m.Enrolment, enrolment, claimed_at=now),
    "enrolment_is_decided_by_a_person_once_claimed": breaking(m.Enrolment, enrolment, is_accepted=True),
    "only_a_units_key_replaces_a_units": replace_by_the_meter,
    "a_unit_has_one_prover": lambda: unit(number=2) and None,
    "unit_prover_comes_after_the_meter": lambda: unit(number=1) and None,
    "unit_prover_is_retired_for_a_reason": retire_for_nothing,
}  # fmt: skip

RULES: dict[str, Break] = {
    "machine_key_change_follows_the_key_in_use": breaking(m.MachineKeyChange, change, previous=b"o" * 32),
    "machine_key_changes_on_record": change_a_key_unseen,
    "a_revoked_key_lifts_no_standing": rise_without_a_key,
    "an_enrolment_is_claimed_and_decided_once": claim_again,
    "a_new_key_follows_that_of_its_unit": succeed_another_unit,
    "a_unit_prover_was_let_in": let_a_unit_in_by_a_code_of_the_meter,
    "a_unit_prover_stays_what_it_is": rename_a_unit,
    "a_key_is_one_machines": meter_with_a_units_key,
}

# Further ones of the same rules.
MORE: list[tuple[str, Break]] = [
    ("a_key_is_one_machines", lambda: unit(bytes(world.node_class("granite").machine_key or b"")) and None),
    ("a_unit_prover_stays_what_it_is", lambda: m.UnitProver.objects.filter(number=2).update(sequence=-1) and None),
    ("", lambda: m.UnitProver.objects.filter(number=2).update(retired_at=now(), retired_for="sold") and None),
    ("", lambda: unit() and None),
]
