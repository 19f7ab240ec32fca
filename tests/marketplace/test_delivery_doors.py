"""Live delivery by its doors: agents over the API; buyer, provider and Foundation by their pages."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any

import pytest
from django.core.cache import cache
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from ledger.models import ChainIntent
from marketplace import clock
from marketplace import models as m
from marketplace.agent.keys import enrolment_statement
from marketplace.agent.readings import SignedReport
from marketplace.delivery.cases import reconcile_window
from marketplace.insights.drawing import usd_text
from marketplace.parties.services import issue_api_key, make_seat, register_party
from marketplace.templatetags.grove import short
from pricing.metering import FULL_WORD
from tests.journey import world
from tests.journey.refusals import all_rows
from tests.live import Live, go_live, key_of

pytestmark = pytest.mark.stage("delivering")


class Agent:
    """A program that speaks for one party at a market time of the test's own."""

    def __init__(self, party: m.Party, now: datetime, monkeypatch: pytest.MonkeyPatch) -> None:
        _, secret = issue_api_key(party=party, label="agent", may_write=True, now=now, expires_at=None)
        self.headers, self.client, self.count = {"Authorization": f"Bearer {secret}"}, Client(), 0
        self.patch = monkeypatch
        self.at(now)

    def at(self, now: datetime) -> Agent:
        cache.clear()
        self.patch.setattr(clock, "now", lambda: now)
        return self

    def get(self, path: str, **query: Any) -> Any:
        return self.client.get(f"/api/v1{path}", query, headers=self.headers)

    def post(self, path: str, body: Any) -> Any:
        self.count += 1
        headers = self.headers | {"Idempotency-Key": f"k-{id(self)}-{self.count}"}
        return self.client.post(f"/api/v1{path}", json.dumps(body), content_type="application/json", headers=headers)

    def send(self, path: str, signed: Iterable[SignedReport]) -> Any:
        given = [{"body": each.body.decode(), "signature": each.signature.hex()} for each in signed]
        return self.post(path, {"statements": given})


def pages(who: Agent, path: str, **query: Any) -> list[dict[str, Any]]:
    """Every row of a list, page by page."""
    found, more = [], {}
    while True:
        page = who.get(path, **query, **more).json()
        found += page["data"]
        if page["next_cursor"] is None:
            return found
        more = {"cursor": page["next_cursor"]}


def test_agents_of_all_three_sides_report_an_hour_over_the_api(monkeypatch: pytest.MonkeyPatch) -> None:
    live = go_live(counter=True)
    lease, now = live.lease, live.at(0)
    provider = Agent(lease.provider, now, monkeypatch)
    buyer = Agent(lease.buyer, now, monkeypatch)
    assert provider.send("/heartbeats", [live.beat(now)]).json()["taken"] == 1
    for name in live.panel:
        verifier = Agent(world.party(name), now, monkeypatch)
        orders = [each for each in pages(verifier, "/probe-orders", minutes=60) if each["lease"] == str(lease.pk)]
        assert len(orders) == 60
        first = orders[0]
        minute_at = live.at(0)
        second = live.draw(minute_at).second(minute_at.hour * 60 + minute_at.minute)
        assert first["probe_at_ms"] == int((minute_at + timedelta(seconds=second)).timestamp() * 1000)
        assert (first["devices"], first["probe_address"]) == (live.units, "http://127.0.0.1:9")
        assert first["machine_key"] == bytes(lease.node_class.machine_key).hex()
        sent = [live.probe(minute, name) for minute in range(60)]
        answer = verifier.at(live.after(0)).send("/probe-reports", sent)
        assert (answer.status_code, answer.json()["taken"]) == (200, 60)
        assert verifier.send("/probe-reports", sent[:5]).json() == {
            "taken": 0, "passed_over": 5, "now_ms": int(live.after(0).timestamp() * 1000)
        }  # fmt: skip
    path = f"/node-classes/cls_{lease.node_class_id.hex}/chain"
    chain = provider.get(path).json()
    taken = m.ReportChain.objects.get(node_class=lease.node_class)
    assert chain == {"sequence": taken.sequence, "head": taken.head}
    assert provider.send("/readings", [live.reading(0)]).json()["taken"] == 1
    assert buyer.send("/counter-readings", [live.counter_reading(0)]).json()["taken"] == 1
    assert buyer.get(f"/leases/lea_{lease.pk.hex}/counter-chain").json()["sequence"] == 1
    reconcile_window(window=world.window(), now=live.after(0))

    for who in (buyer, provider):
        told = who.get(f"/leases/lea_{lease.pk.hex}/health").json()
        assert (told["state"], told["is_billed"]) == ("HEALTHY", True)
        assert (told["hours"][0]["verdicts"], told["hours"][0]["money"]) == ("u" * 60, "b" * 60)
        assert told["hours"][0]["is_rated"] is True
        assert who.get("/delivery-cases").json() == {"data": [], "next_cursor": None}
    stranger = Agent(world.party("birch"), live.after(0), monkeypatch)
    assert stranger.get(f"/leases/lea_{lease.pk.hex}/health").status_code == 404


def test_a_refusal_over_the_api_has_its_code_names_its_item_and_writes_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    live = go_live()
    name, now = live.panel[0], live.after(0)
    verifier = Agent(world.party(name), now, monkeypatch)
    good, forged = live.probe(0, name), live.probe(1, name, key="granite")
    before = {table: rows for table, rows in all_rows().items() if "apikey" not in table}

    for path, signed, status, code in (
        ("/probe-reports", [good, forged], 422, "report_forged"),
        ("/probe-reports", [good, live.probe(0, name, up=False)], 409, "report_replayed"),
        ("/probe-reports", [good, SignedReport(b"[]", good.signature)], 422, "report_forged"),
        ("/probe-reports", [good, live.probe(200, name)], 422, "report_from_future"),
        ("/rechecks", [good, good], 422, "report_forged"),
    ):
        answer = verifier.send(path, signed)
        assert (answer.status_code, answer.json()["code"]) == (status, code)
        assert answer.json()["item"] == (0 if path == "/rechecks" else 1)
    assert verifier.post("/probe-reports", {"statements": []}).status_code == 422
    assert verifier.send("/probe-reports", [good] * 101).status_code == 413  # more than 64 KiB
    assert verifier.send("/probe-reports", [SignedReport(b"{}", b"")] * 101).status_code == 422  # more than a hundred
    assert verifier.send("/readings", [live.reading(0)]).json()["code"] == "report_forged"
    assert {table: rows for table, rows in all_rows().items() if "apikey" not in table} == before

    assert verifier.send("/probe-reports", [good]).json()["taken"] == 1


def test_a_verifier_enrols_its_key_and_the_days_are_there_for_everybody(monkeypatch: pytest.MonkeyPatch) -> None:
    live = go_live()
    now = live.at(-60)
    party = register_party(slug="elder", name="Elder", kind="verifier", country="DE", parent_country="DE", now=now)
    verifier = Agent(party, now, monkeypatch)
    given = enrolment_statement(key_of("elder"), "witness:elder")
    body = {"public_key": given["public_key"], "signature": given["signature"]}

    assert verifier.post("/witness-keys", body | {"signature": "00" * 64}).json()["code"] == "report_forged"
    made = verifier.post("/witness-keys", body)
    assert (made.status_code, made.json()["public_key"]) == (200, given["public_key"])
    assert verifier.get("/probe-orders").json()["data"] == []  # today's panels are drawn already
    assert verifier.get("/probe-orders", minutes="61").status_code == 422

    days = Client().get("/api/v1/probe-days").json()["data"]
    assert days[-1]["secret"] is not None
    assert days[0]["secret"] is None
    assert len(days[0]["commitment"]) == 64
    assert Client().get("/api/v1/time").json() == {"now_ms": int(now.timestamp() * 1000)}


def test_a_provider_announces_maintenance_and_a_buyer_records_a_stop(monkeypatch: pytest.MonkeyPatch) -> None:
    live = go_live()
    now = live.at(0)
    provider, buyer = Agent(live.lease.provider, now, monkeypatch), Agent(live.lease.buyer, now, monkeypatch)
    span = {"starts_at": live.at(100).isoformat(), "ends_at": live.at(160).isoformat()}

    notice = provider.post("/maintenance-notices", span | {
        "node_class": f"cls_{live.lease.node_class_id.hex}", "reason": "new switches"})  # fmt: skip
    stop = buyer.post(f"/leases/lea_{live.lease.pk.hex}/stops", span | {"reason": "stopped"})

    assert (notice.status_code, stop.status_code) == (200, 200)
    assert provider.post(f"/leases/lea_{live.lease.pk.hex}/stops", span | {"reason": "stopped"}).status_code == 404


def test_maintenance_is_announced_on_the_providers_page_by_who_operates() -> None:
    live, page = go_live(), "/onboarding/cases/"
    operator, finance = person("granite", "operator"), person("granite", "finance")
    starts_at = clock.now() + timedelta(hours=73)
    form = {"node_class": str(live.lease.node_class_id), "starts_at": f"{starts_at:%Y-%m-%d %H:%M:%S}",
            "ends_at": f"{starts_at + timedelta(minutes=90):%Y-%m-%d %H:%M:%S}", "reason": "new switches"}  # fmt: skip

    for wrong, why in (({"ends_at": form["starts_at"]}, "four hours at most"), ({"reason": ""}, "required"),
                       ({"node_class": str(world.node_class("harbour").pk)}, "Machines: "),
                       ({"starts_at": "soon"}, "From: ")):  # fmt: skip
        refused = operator.post(page, form | wrong)
        assert refused.status_code == 422
        assert why in refused.content.decode()
    assert "role_forbidden" in finance.post(page, form).content.decode()
    assert not m.MaintenanceNotice.objects.exists()

    operator.post(page, form)
    notice = m.MaintenanceNotice.objects.get()
    assert (notice.ends_at - notice.starts_at, notice.reason) == (timedelta(minutes=90), "new switches")
    assert "new switches" in operator.get(page).content.decode()
    assert m.Notice.objects.filter(code="maintenance_announced", party=live.lease.buyer).exists()
    operator.post(page, form)  # twice is once
    assert m.MaintenanceNotice.objects.count() == 1


def disputed(live: Live) -> m.DeliveryCase:
    live.probe_slot(0)
    live.send_reading(live.reading(0), now=live.after(0))
    live.send_counter(live.counter_reading(0, FULL_WORD & ~0b1111), now=live.after(0))
    reconcile_window(window=world.window(), now=live.after(0))
    return m.DeliveryCase.objects.get()


def person(slug: str, role: str, *, is_staff: bool = False, name: str = "") -> Client:
    made = make_seat(
        party=world.party(slug), email=f"{name or role}@{slug}.example", password="correct horse", role=role,
        now=clock.now(),
    )  # fmt: skip
    m.User.objects.filter(pk=made.user_id).update(is_staff=is_staff, is_superuser=is_staff)
    client = Client()
    client.force_login(m.User.objects.get(pk=made.user_id))
    return client


def test_pages_of_both_sides_show_health_minutes_and_cases_and_a_judge_decides() -> None:
    live = go_live(counter=True)
    buyer, provider = person("alder", "owner"), person("granite", "operator")
    for client, door in ((buyer, "portal"), (provider, "onboarding")):
        assert "No case" in client.get(f"/{door}/cases/").content.decode()
        assert "No minute is reported yet" in client.get(f"/{door}/leases/{live.lease.pk}/minutes/").content.decode()
    case = disputed(live)

    for client, door in ((buyer, "portal"), (provider, "onboarding")):
        cases = client.get(f"/{door}/cases/").content.decode()
        assert "genome" in cases
        assert "open, fee held" in cases
        minutes = client.get(f"/{door}/leases/{live.lease.pk}/minutes/").content.decode()
        assert "h" * 4 + "b" * 56 in minutes
        assert "healthy, billed" in minutes
    assert person("birch", "owner").get(f"/portal/leases/{live.lease.pk}/minutes/").status_code == 404
    assert provider.get(f"/portal/leases/{live.lease.pk}/minutes/").status_code == 404

    register_party(slug="house", name="House", kind="foundation", country="CH", parent_country="CH", now=clock.now())
    judge, auditor = person("house", "judge", is_staff=True), person("house", "auditor", is_staff=True)
    assert "genome" in judge.get("/console/delivery-cases/").content.decode()
    page = judge.get(f"/console/delivery-cases/{case.pk}/").content.decode()
    assert "d" * 4 + "u" * 56 in page
    auditor.post(f"/console/delivery-cases/{case.pk}/", {"decision": "bill", "reason": "I say so"})
    case.refresh_from_db()
    assert case.state == "OPEN"
    judge.post(f"/console/delivery-cases/{case.pk}/", {"decision": "bill", "reason": "the counter was off"})
    case.refresh_from_db()
    assert (case.outcome, case.billed_minutes) == ("people", 4)


@pytest.mark.stage("paid")
def test_the_page_of_a_class_says_what_the_contract_made_of_each_proof() -> None:
    granite = world.node_class("granite")
    newest = granite.benchmarks.order_by("epoch").last()
    sent = ChainIntent.objects.get(key=f"prove:{granite.chain_class}:{newest.epoch}")
    assert sent.state == "final"

    page = person("granite", "operator").get(f"/onboarding/classes/{granite.pk}/").content.decode()

    assert f'{short(sent.tx_hash)}</span> <span class="tag tag-ok">final' in page


@pytest.mark.stage("paid")
def test_a_lease_that_was_reported_hour_by_hour_shows_what_it_earned_and_promises_no_minutes() -> None:
    lease = world.lease("genome")
    verdict = lease.verdict
    assert verdict.unpaid_micros > 0

    for client, door in ((person("alder", "owner"), "portal"), (person("granite", "operator"), "onboarding")):
        page = client.get(f"/{door}/leases/{lease.pk}/minutes/").content.decode()
        assert "Reported hour by hour" in page
        assert not re.search(r"\byet\b", page[page.index("<h1>") :])  # a word: a token may hold these letters
        for amount in (verdict.earned_micros, verdict.unpaid_micros):
            assert f"<b>{usd_text(amount)}</b>" in page


def test_two_judges_sign_an_outage_in_the_console_and_nobody_else_does() -> None:
    live = go_live()
    register_party(slug="house", name="House", kind="foundation", country="CH", parent_country="CH", now=clock.now())
    first, second = person("house", "judge", is_staff=True), person("house", "judge", is_staff=True, name="second")
    auditor, address = person("house", "auditor", is_staff=True), "/console/causes/"
    row = live.lease.node_class
    span = {"node_class": row.chain_class, "cause": "FORCE_MAJEURE", "starts_at": live.at(0).isoformat(),
            "ends_at": live.at(5).isoformat()}  # fmt: skip

    assert "None." in first.get(address).content.decode()
    auditor.post(address, {**span, "evidence": "flood"})
    first.post(address, {**span, "starts_at": "soon", "evidence": "flood"})
    first.post(address, {**span, "evidence": " "})
    assert first.post(address, {**span, "node_class": 10**6, "evidence": "flood"}).status_code == 404
    assert not m.JudgedCause.objects.exists()

    first.post(address, {**span, "evidence": "the river's gauge"})
    first.post(address, {**span, "evidence": "the river's gauge"})
    assert "waits for a second judge" in second.get(address).content.decode()
    second.post(address, {**span, "evidence": "the fire brigade's report"})

    page = second.get(address).content.decode()
    assert "waits for a second judge" not in page
    assert "the fire brigade&#x27;s report" in page
    assert m.JudgedCause.objects.count() == 2


def test_minutes_come_a_day_to_a_page_and_a_full_page_costs_what_a_short_one_does() -> None:
    live = go_live()
    for slot in range(30):
        m.SlotTally.objects.create(
            lease=live.lease, slot=slot, units=1, amount_micros=60, unpaid_micros=60, unknown_word=FULL_WORD,
            probe_valid=[0] * 3, probe_failed=[0] * 3, evidence_at=live.at(0),
        )  # fmt: skip
    client, address = person("alder", "owner"), f"/portal/leases/{live.lease.pk}/minutes/"
    client.get(address)

    with CaptureQueriesContext(connection) as full:
        page = client.get(address).content.decode()
    with CaptureQueriesContext(connection) as short:
        last = client.get(address, {"page": 2}).content.decode()

    assert (page.count("?" * 60), last.count("?" * 60)) == (24, 6)
    assert len(full) == len(short) < 15
