"""The books as they stood, their files, differences line by line, and parked jobs: each refusal beside its success."""

from __future__ import annotations

import csv
import json
from datetime import timedelta

import pytest
from django.test import Client

from ledger.epochs import close_epoch
from ledger.ids import uuid7
from ledger.models import CardReconciliation, Outbox, Reconciliation, Transfer
from ledger.selectors import last_seq, statement, trial_balance
from ledger.services import USDC6_LEDGER
from ledger.tasks import TRIES_MAX
from marketplace import models as m
from marketplace.doors import ROWS_PER_PAGE
from marketplace.governance.services import first_broken_line
from marketplace.insights.drawing import usd_text
from tests.doors.factories import NOW

BOOKS, JOBS = "/console/books/", "/console/parked-jobs/"


def read(answer) -> tuple[list[dict[str, str]], dict]:
    assert answer.status_code == 200
    *lines, last = b"".join(answer.streaming_content).decode().splitlines()
    return list(csv.DictReader(lines)), json.loads(last.removeprefix("# "))


def told(answer) -> str:
    assert answer.status_code == 302
    return answer.wsgi_request._messages._queued_messages[0].message


def test_the_trial_balance_of_a_past_number_and_of_a_time_are_shown_with_their_epoch(market, staff):
    middle = last_seq() // 2
    booked_at = Transfer.objects.get(ledger=USDC6_LEDGER, seq=middle).posted_at
    at_that_time = Transfer.objects.filter(ledger=USDC6_LEDGER, posted_at__lte=booked_at).latest("seq").seq
    past = staff.get(BOOKS, {"at": str(middle)})
    unsealed = past.content.decode()
    close_epoch(USDC6_LEDGER, NOW)
    timed = staff.get(BOOKS, {"at": booked_at.isoformat(" ")})

    assert past.context["trial"] == trial_balance(at_seq=middle)
    assert usd_text(trial_balance(at_seq=middle).debits_posted) in unsealed
    assert "not sealed yet" in unsealed
    assert timed.context["seq"] == at_that_time
    assert "In epoch <b>1</b>" in timed.content.decode()
    assert f"to_seq={at_that_time}" in timed.content.decode()


@pytest.mark.parametrize(("asked", "code"), [
    ("0", "seq_not_written"), ("999999999", "seq_not_written"), ("1999-01-01", "seq_not_written"),
    ("yesterday", "bad_input"), ("-3", "bad_input"), ("0001-01-01T00:00:00+23:59", "bad_input"), ("x\x01", "bad_input"),
])  # fmt: skip
def test_a_number_or_time_that_is_not_in_the_books_is_refused_and_the_present_shown(market, staff, asked, code):
    answer = staff.get(BOOKS, {"at": asked})

    page = answer.content.decode()

    assert answer.status_code == 422
    assert f"({code})" in page
    assert f"Transfers are numbered 1 to {last_seq()}." in page
    assert answer.context["trial"] == trial_balance()


def test_the_files_of_the_books_add_up_to_the_trial_balance(market, staff):
    last = last_seq()
    sums = {row.code: row.balance for row in trial_balance(at_seq=last).rows}

    trial, trial_manifest = read(staff.get(f"{BOOKS}trial-balance/", {"to_seq": last}))
    transfers, manifest = read(staff.get(f"{BOOKS}transfers/"))

    assert {row["account"]: int(row["balance_micros"]) for row in trial} == sums
    assert [int(row["seq"]) for row in transfers] == list(range(1, last + 1))
    assert {**manifest["sums"]} == trial_manifest["sums"]
    assert manifest["totals"]["debits_posted_micros"] == manifest["totals"]["credits_posted_micros"]


def test_the_foundation_may_write_any_partys_statement_and_a_stranger_has_none(market, staff):
    party = market.buyers[1]
    rows, manifest = read(staff.get(f"{BOOKS}statement/", {"party": party.slug}))

    assert (manifest["party"], len(rows)) == (str(party.pk), len(statement(party.pk)))
    for unknown in ("nobody", "", "x\x01"):
        assert staff.get(f"{BOOKS}statement/", {"party": unknown}).status_code == 404
    assert staff.get(f"{BOOKS}secrets/").status_code == 404


@pytest.mark.parametrize(("query", "code"), [
    ({"format": "xlsx"}, "unknown_format"), ({"from_seq": "3", "to_seq": "2"}, "range_reversed"),
    ({"to_seq": "999999999"}, "seq_not_written"), ({"to_seq": "two"}, "bad_input"),
])  # fmt: skip
def test_a_file_that_cannot_be_is_refused_on_the_page_of_the_books(market, staff, query, code):
    answer = staff.get(f"{BOOKS}transfers/", query)

    assert f"({code})" in told(answer)
    assert answer["Location"] == BOOKS


@pytest.mark.parametrize("path", [JOBS, f"{BOOKS}transfers/", f"{BOOKS}trial-balance/", f"{BOOKS}statement/"])
def test_only_staff_seats_come_in(market, path):
    stranger, buyer = Client(), Client()
    buyer.force_login(m.User.objects.get(email="buyer@console.example"))

    assert stranger.get(path).status_code == 302
    assert buyer.get(path, {"party": market.buyers[1].slug}, follow=True).status_code == 403


def test_differences_with_the_chain_and_the_processor_are_shown_line_by_line(market, staff):
    assert "Not compared yet." in staff.get(BOOKS).content.decode()
    party = market.buyers[0]
    Reconciliation.objects.create(
        ledger_id=1, block_number=77, block_hash="0x", figures=[{}] * 9, checked_at=NOW, differences=[
            {"figure": "free", "subject": str(party.pk), "books": 3_000_001, "chain": 1_000_000},
            {"figure": "stake", "subject": "4", "books": 0, "chain": 5},
            {"figure": "fees", "subject": "", "books": 8, "chain": 9}])  # fmt: skip
    CardReconciliation.objects.create(
        books_cents=5, processor_cents=4, lines=1, checked_at=NOW, differences=[
            {"line": "txn_<x>", "kind": "charge", "source": "ch_1", "books_cents": 5, "processor_cents": 4},
        ],
    )  # fmt: skip
    page = staff.get(BOOKS).content.decode()

    for words in (party.name, "$2.000001", "node class 4", "whole contract", "txn_&lt;x&gt;", "ch_1"):
        assert words in page
    assert page.count("Books less chain</th>") == 1
    assert "-$0.000005" in page or "−$0.000005" in page


def test_equal_figures_are_said_to_be_equal(market, staff):
    Reconciliation.objects.create(
        ledger_id=1, block_number=78, block_hash="0x", figures=[{}] * 9, differences=[], checked_at=NOW
    )

    assert "None: all 9 figures are equal." in staff.get(BOOKS).content.decode()


@pytest.fixture
def parked(market):
    return Outbox.objects.create(
        id=uuid7(NOW), kind="send", payload={}, dedupe_key="poison:1", run_at=NOW, tries=TRIES_MAX,
        last_error="RuntimeError: <b>no</b>", leased_until=NOW + timedelta(minutes=1),
    )  # fmt: skip


def help_job(staff, job, act: str, reason: str = "the node was down"):
    return staff.post(JOBS, {"job": str(job.pk), "act": act, "reason": reason})


def test_a_parked_job_is_shown_and_retried_with_a_reason_on_the_trail(parked, staff):
    page = staff.get(JOBS).content.decode()
    assert "poison:1" in page
    assert "&lt;b&gt;no" in page

    help_job(staff, parked, "retry")

    parked.refresh_from_db()
    line = m.AuditLine.objects.latest("no")
    assert (parked.tries, parked.done_at, parked.leased_until, parked.run_at) == (0, None, None, NOW)
    assert (line.action, line.subject, line.reason) == ("retry_job", "send poison:1", "the node was down")
    assert (line.actor, line.facts["tries"]) == ("staff@console.example", TRIES_MAX)
    assert first_broken_line() is None
    after = staff.get(JOBS).content.decode()
    assert "No job is parked" in after
    assert "the node was down" in after


def test_parked_jobs_are_paged_and_counted(parked, staff):
    Outbox.objects.bulk_create(
        Outbox(id=uuid7(NOW), kind="send", payload={}, dedupe_key=f"poison:{number}:", run_at=NOW + timedelta(hours=1),
               tries=TRIES_MAX, last_error="x" * 2000)
        for number in range(2, 2 + ROWS_PER_PAGE)
    )  # fmt: skip
    first, second = (staff.get(JOBS, {"page": page}) for page in (1, 2))
    beyond, words = (staff.get(JOBS, {"page": page}).content.decode() for page in ("99", "x"))
    shown = [[job.dedupe_key for job in answer.context["page"]] for answer in (first, second)]

    assert [len(page) for page in shown] == [ROWS_PER_PAGE, 1]
    assert shown[0][0] == "poison:1"  # the oldest
    assert len({*shown[0], *shown[1]}) == ROWS_PER_PAGE + 1
    assert f"Page 1 of 2, {ROWS_PER_PAGE + 1} jobs" in first.content.decode()
    assert "Page 2 of 2" in beyond
    assert "Page 1 of 2" in words
    assert f"{ROWS_PER_PAGE + 1} dead letters." in staff.get("/console/").content.decode()


def test_a_dropped_job_ends_without_its_effect_and_keeps_its_key(parked, staff):
    help_job(staff, parked, "drop", "asked for twice")

    parked.refresh_from_db()
    assert (parked.done_at, parked.tries, parked.last_error) == (NOW, TRIES_MAX, "RuntimeError: <b>no</b>")
    assert m.AuditLine.objects.latest("no").action == "drop_job"
    assert 'gx-tag-bad">dropped' in staff.get(JOBS).content.decode()


@pytest.mark.parametrize("act", ["retry", "drop"])
def test_a_job_is_helped_once_and_never_without_a_reason(parked, staff, act):
    lines = m.AuditLine.objects.count()
    for reason in ("", "   ", "x" * 301, "two\nlines"):
        assert "(bad_input)" in told(help_job(staff, parked, act, reason))
    parked.refresh_from_db()
    assert (parked.tries, parked.done_at, m.AuditLine.objects.count()) == (TRIES_MAX, None, lines)

    help_job(staff, parked, act)
    again = help_job(staff, parked, "drop")

    assert "(job_not_dead)" in told(again)
    assert m.AuditLine.objects.count() == lines + 1


def test_an_act_or_a_job_that_is_none_does_nothing(parked, staff):
    assert help_job(staff, parked, "delete").status_code == 404
    assert staff.post(JOBS, {"job": "x", "act": "drop", "reason": "r"}).status_code == 404
    assert "(job_not_dead)" in told(staff.post(JOBS, {"job": str(uuid7(NOW)), "act": "drop", "reason": "r"}))
    Outbox.objects.filter(pk=parked.pk).update(tries=TRIES_MAX - 1)
    assert "(job_not_dead)" in told(help_job(staff, parked, "drop"))

    parked.refresh_from_db()
    assert parked.done_at is None


@pytest.mark.parametrize("act", ["retry", "drop"])
def test_only_a_staff_seat_helps_a_job(parked, staff, act):
    stranger, buyer = Client(), Client()
    buyer.force_login(m.User.objects.get(email="buyer@console.example"))
    lines = m.AuditLine.objects.count()

    assert help_job(stranger, parked, act)["Location"] == f"/console/login/?next={JOBS}"
    assert buyer.post(JOBS, {"job": str(parked.pk), "act": act, "reason": "r"}, follow=True).status_code == 403
    parked.refresh_from_db()
    assert (parked.tries, parked.done_at, m.AuditLine.objects.count()) == (TRIES_MAX, None, lines)

    assert "(" not in told(help_job(staff, parked, act))
    parked.refresh_from_db()
    assert (parked.tries, parked.done_at) == {"retry": (0, None), "drop": (TRIES_MAX, NOW)}[act]
    assert m.AuditLine.objects.count() == lines + 1
