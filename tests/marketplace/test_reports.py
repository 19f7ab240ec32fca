"""Reports with a deposit: what is upheld earns a fixed sum, what is rejected nothing, and nobody is named (M-073)."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.test import Client

from ledger.connect import CUSTODY_WALLET
from ledger.rails import sender
from ledger.rails.evm import chain
from ledger.rails.rebuild import rebuild
from ledger.rails.signer import signer
from ledger.reconcile import check_books
from ledger.rewards import reward_pool_micros
from ledger.selectors import balance, reserved
from ledger.services import book_float, expire_holds
from marketplace import clock, cycle
from marketplace import models as m
from marketplace.demo.papers import reviewer_seat
from marketplace.errors import BadInput, NotFunded, RoleForbidden, SamePerson, WindowClosed
from marketplace.escrow.services import deposit_funds
from marketplace.oversight import reports
from marketplace.parties.services import issue_api_key, make_seat
from tests.journey import world
from tests.journey.refusals import refused

DEPOSIT, REWARD = 50 * world.USD, 100 * world.USD


def judge(name: str = "judge", role: str = "judge") -> m.Seat:
    party = reviewer_seat(clock.now()).party
    return make_seat(party=party, email=f"{name}@foundation.example", password=None, role=role, now=clock.now())


def free(slug: str = "elm") -> int:
    party = world.party(slug).pk
    held = reserved(code="buyer.available", party=party).minor
    return balance(code="buyer.available", party=party).minor - held


def report(**changes: Any) -> m.Report:
    terms: dict[str, Any] = {
        "party": world.party("elm"), "about": world.party("granite"), "kind": "fake_hardware", "text": "not an H100",
        "evidence": b"log", "file_name": "log.txt", "now": clock.now(),
    }  # fmt: skip
    return reports.make_report(**terms | changes)


def decide(row: m.Report, *, is_upheld: bool, seat: m.Seat | None = None, **changes: Any) -> m.Report:
    terms: dict[str, Any] = {"reason": "as the log says", "outcome": "A provider listed slower cards.",
                             "now": clock.now()}  # fmt: skip
    return reports.decide_report(seat=seat or judge(), report_id=row.pk, is_upheld=is_upheld, **terms | changes)


def triage(row: m.Report) -> m.Report:
    return reports.triage_report(seat=judge("first"), report_id=row.pk, reason="worth a look", now=clock.now())


@pytest.fixture
def rich(own_world: Callable[[str], str]) -> None:
    """Elm has a hundred dollars more, and the Foundation a thousand of its own in its wallet."""
    own_world("collecting")
    now = clock.now()
    deposit_funds(party=world.party("elm"), amount_micros=100 * world.USD, key="report", now=now)
    sender.submit(key="float", role="faucet", contract="token", function="mint",
                  args=[signer().address("custody"), 1_000 * world.USD], now=now)  # fmt: skip
    cycle.run_chain(now=now)
    book_float(wallet=CUSTODY_WALLET, micros=1_000 * world.USD, reference=bytes(32), now=now)


def right() -> bool:
    assert [each for each in check_books(now=clock.now()) if not each.ok] == []
    assert [each for each in rebuild(now=clock.now()) if not each.ok] == []
    return cycle.reconcile(now=clock.now()) == []


def test_an_upheld_report_returns_the_deposit_and_earns_a_fixed_sum_from_the_pool(rich: None) -> None:
    before = free()
    judge(), judge("first")
    row = report()
    assert free() == before - DEPOSIT
    with refused(WindowClosed, state="open"):
        decide(row, is_upheld=True)
    triage(row)
    with refused(SamePerson):
        decide(row, is_upheld=True, seat=judge("first"))

    decide(row, is_upheld=True)
    assert free() == before
    cycle.advance_until_quiet(now=clock.now())
    assert m.Report.objects.get().settled_at is None  # the pool is empty: the reward waits
    reports.fill_reward_pool(seat=judge("ops", "operations"), micros=2 * REWARD, reason="a year", now=clock.now())
    cycle.advance_until_quiet(now=clock.now())

    assert free() == before + REWARD
    assert reward_pool_micros() == REWARD
    assert m.Report.objects.get().settled_at is not None
    cycle.advance_until_quiet(now=clock.now())
    assert free() == before + REWARD
    assert right()


def test_a_rejected_report_gets_nothing_and_its_deposit_goes_to_the_pool(rich: None) -> None:
    before, on_chain = free(), _on_chain("elm")
    row = report()

    decide(row, is_upheld=False)
    assert free() == before - DEPOSIT  # held until the chain has paid it out
    cycle.advance_until_quiet(now=clock.now())

    assert (free(), _on_chain("elm")) == (before - DEPOSIT, on_chain - DEPOSIT)
    assert reward_pool_micros() == DEPOSIT
    assert balance(code="buyer.held", party=world.party("elm").pk, scope=row.pk).minor == 0
    assert m.Report.objects.get().settled_at is not None
    assert right()


def _on_chain(slug: str) -> int:
    return int(chain().call("escrow", "account_of", world.party(slug).chain_address)[1])


def test_an_undecided_report_gives_the_deposit_back_by_itself(rich: None) -> None:
    before = free()
    row = report()
    clock.move_to(clock.now() + reports.UNDECIDED_AFTER + timedelta(hours=1))
    expire_holds(now=clock.now())
    assert free() == before

    decide(row, is_upheld=False)
    cycle.run_chain(now=clock.now())
    reports.settle_reports(now=clock.now())
    assert free() == before
    assert m.Report.objects.get().settled_at is not None


def test_a_bad_report_is_refused_and_writes_nothing(rich: None) -> None:
    clerk = make_seat(party=world.party("elm"), email="c@elm.example", password=None, role="compliance",
                      now=clock.now())  # fmt: skip
    for facts, error, changes in (
        ({"field": "kind"}, BadInput, {"kind": "gossip"}), ({"field": "text"}, BadInput, {"text": " "}),
        ({"field": "about"}, BadInput, {"about": world.party("elm")}),
        ({"field": "evidence"}, BadInput, {"evidence": b"x" * (4 * 2**20 + 1)}),
        ({"field": "party"}, BadInput, {"party": world.party("harbour")}),
        ({"needed_micros": DEPOSIT}, NotFunded, {"party": world.party("birch")}), ({}, RoleForbidden, {"seat": clerk}),
    ):  # fmt: skip
        with refused(error, **facts):
            report(**changes)
    with refused(BadInput, field="deposit_micros"):
        reports.set_report_rule(deposit_micros=0, reward_micros=1, person="ann", reason="r", now=clock.now())

    row = report()
    reviewer = judge()
    with refused(BadInput, field="outcome"):
        decide(row, is_upheld=False, seat=reviewer, outcome="Granite listed slower cards.")
    with refused(RoleForbidden):
        decide(row, is_upheld=False, seat=clerk)


def test_a_changed_rule_holds_for_reports_made_after_it(rich: None) -> None:
    first = report()
    reports.set_report_rule(deposit_micros=10 * world.USD, reward_micros=0, person="ann", reason="cheaper",
                            now=clock.now())  # fmt: skip
    second = report(about=world.party("prairie"))

    assert (first.deposit_micros, second.deposit_micros) == (DEPOSIT, 10 * world.USD)
    triage(second)
    assert decide(second, is_upheld=True).settled_at is not None  # no reward: nothing has to move


def test_the_public_and_the_console_see_what_they_should(rich: None) -> None:
    client, staff = Client(), Client()
    owner = make_seat(party=world.party("elm"), email="o@elm.example", password=None, role="owner", now=clock.now())
    client.force_login(owner.user)
    staff.force_login(judge("first").user)
    form = {"about": "granite", "kind": "residency", "text": "it ran elsewhere"}

    assert client.post("/portal/reports/", form | {"text": ""}).status_code == 422
    assert client.post("/portal/reports/", form).status_code == 302
    row = m.Report.objects.get()
    act = f"/console/reports/{row.pk}/"
    staff.post(act, {"act": "triage", "reason": "worth it"})
    staff.post(act, {"act": "uphold", "reason": "r", "outcome": "Work ran outside its zone."})
    assert m.Report.objects.get().state == "triaged"  # the same person
    staff.force_login(judge().user)
    assert "it ran elsewhere" in staff.get("/console/reports/").content.decode()
    staff.post(act, {"act": "uphold", "reason": "r", "outcome": "Work ran outside its zone."})

    told = Client().get("/api/v1/market/report-outcomes").json()["data"]
    assert [(each["is_upheld"], each["sentence"]) for each in told] == [(True, "Work ran outside its zone.")]
    public = Client().get("/market/reports/").content.decode()
    assert "Work ran outside its zone." in public
    assert not any(name in public for name in ("Granite", "granite", "Elm", "elm.example", str(row.pk)))
    assert "upheld" in client.get("/portal/reports/").content.decode()


def test_a_report_is_made_by_the_api_under_its_key(rich: None) -> None:
    _, secret = issue_api_key(party=world.party("elm"), label="bot", may_write=True, now=clock.now())
    send = {"content_type": "application/json", "headers": {"Authorization": f"Bearer {secret}",
                                                            "Idempotency-Key": "k1"}}  # fmt: skip
    body = {"about": "granite", "kind": "collusion", "text": "same prices every week"}

    first, again = (Client().post("/api/v1/reports", body, **send) for _ in range(2))

    assert (first.status_code, again.json()) == (201, first.json())
    assert (first.json()["deposit_micros"], m.Report.objects.count()) == (str(DEPOSIT), 1)
    missing = Client().post("/api/v1/reports", body | {"about": "nobody"}, **send | {
        "headers": send["headers"] | {"Idempotency-Key": "k2"}})  # fmt: skip
    assert missing.status_code == 404
    assert [row["id"] for row in Client().get("/api/v1/reports", headers=send["headers"]).json()["data"]] == [
        first.json()["id"]]  # fmt: skip
