"""Seats and passwords through their pages: a link is shown once and leads in once, and a stranger finds nothing."""

from __future__ import annotations

import re
import socket
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from django.core import mail
from django.core.cache import cache
from django.test import Client
from django.urls import reverse

from ledger.models import Outbox
from ledger.tasks import TRIES_MAX, dead_jobs, drain, retry_job
from marketplace import (
    clock,
    tasks,  # noqa: F401  the jobs' handlers
)
from marketplace import models as m
from marketplace.parties import seats
from marketplace.parties.services import make_seat
from tests.doors.factories import NOW, PASSWORD, seat

DOORS = {"portal": ("buyer", "purchaser"), "onboarding": ("provider", "operator")}
ANSWER = {"name": "Noa Neu", "password": "another long password", "again": "another long password"}


@pytest.fixture(autouse=True)
def _uncounted():
    cache.clear()
    yield
    cache.clear()


def invite(client: Client, door: str, **changes: str) -> str:
    fields = {"act": "invite", "email": "noa@new.example", "role": DOORS[door][1]}
    page = client.post(reverse(f"{door}:seats"), fields | changes)
    link = re.search(r"http://testserver(/(?:invitation|password)/[^<\s]+)", page.content.decode())
    assert page.status_code == 200
    assert link, page.content.decode()
    assert "no-store" in page.headers["Cache-Control"]
    return link[1]


def party_of(who: str) -> m.Party:
    return m.Seat.objects.get(user__email=f"{who}@doors.example").party


@pytest.mark.parametrize("door", DOORS)
def test_a_colleague_is_invited_takes_the_seat_and_signs_in(door, market, enter):
    client, url = enter(DOORS[door][0]), reverse(f"{door}:seats")
    link = invite(client, door)
    assert link not in client.get(url).content.decode()
    assert "noa@new.example" in client.get(url).content.decode()
    assert "Take your seat" in Client().get(link).content.decode()

    taken = Client().post(link, ANSWER)

    assert taken.headers["Location"] == "/login/"
    colleague = Client()
    entered = colleague.post("/login/", {"username": "noa@new.example", "password": ANSWER["password"]})
    assert entered.headers["Location"] == ("/portal/" if door == "portal" else "/onboarding/")
    assert "Noa Neu" in client.get(url).content.decode()
    again = Client().post(link, ANSWER)
    assert (again.status_code, "link_over" in again.content.decode()) == (410, True)
    page = colleague.get(url).content.decode()
    assert "noa@new.example" in page
    assert "Invite a colleague" not in page
    refused = colleague.post(url, {"act": "invite", "email": "x@new.example", "role": DOORS[door][1]})
    assert (refused.status_code, "role_forbidden" in refused.content.decode()) == (422, True)


@pytest.mark.parametrize(("answer", "words"), [
    ({"again": "something else"}, "differ"), ({"name": ""}, "required"),
    ({"password": "short", "again": "short"}, "short"),
])  # fmt: skip
def test_a_bad_answer_to_an_invitation_is_told_and_takes_no_seat(answer, words, market, enter):
    link = invite(enter("buyer"), "portal")

    page = Client().post(link, ANSWER | answer)

    assert page.status_code == 422
    assert words in page.content.decode()
    assert not m.User.objects.filter(email="noa@new.example").exists()


def test_an_invitation_is_taken_back_on_the_page(market, enter):
    client, url = enter("buyer"), reverse("portal:seats")
    link = invite(client, "portal")
    row = m.Invitation.objects.get(email="noa@new.example")
    assert enter("other.buyer").post(url, {"act": "withdraw", "id": row.pk}).status_code == 404

    client.post(url, {"act": "withdraw", "id": row.pk})

    assert Client().get(link).status_code == 410


def test_roles_change_and_a_seat_is_switched_off_and_on_from_the_page(market, enter):
    client, url = enter("buyer"), reverse("portal:seats")
    colleague = make_seat(party=party_of("buyer"), email="c@b.example", password=PASSWORD, role="purchaser", now=NOW)
    theirs = Client()
    theirs.force_login(colleague.user)

    client.post(url, {"act": "role", "id": colleague.pk, "role": "approver"})
    colleague.refresh_from_db()
    assert colleague.role == "approver"
    client.post(url, {"act": "off", "id": colleague.pk})
    assert theirs.get(url).status_code == 302
    assert "switched off" in client.get(url).content.decode()
    client.post(url, {"act": "on", "id": colleague.pk})
    assert Client().login(username="c@b.example", password=PASSWORD)

    own = m.Seat.objects.get(user__email="buyer@doors.example")
    for act in ("off", "role"):
        page = client.post(url, {"act": act, "id": own.pk, "role": "finance"}, follow=True).content.decode()
        assert "last_owner" in page
    for act in ("off", "on", "role", "reset"):
        assert enter("other.buyer").post(url, {"act": act, "id": colleague.pk}).status_code == 404
        assert client.post(url, {"act": act, "id": "x"}).status_code == 404
    assert client.post(url, {"act": "dance"}).status_code == 404


def test_a_link_of_an_owner_sets_another_password_and_ends_every_session(market, enter):
    client, url = enter("buyer"), reverse("portal:seats")
    colleague = make_seat(party=party_of("buyer"), email="c@b.example", password=PASSWORD, role="purchaser", now=NOW)
    theirs = Client()
    theirs.force_login(colleague.user)
    link = invite(client, "portal", act="reset", id=str(colleague.pk))
    assert Client().get(link).status_code == 200
    assert Client().post(link, {"password": "short", "again": "short"}).status_code == 422

    assert Client().post(link, {k: ANSWER[k] for k in ("password", "again")}).headers["Location"] == "/login/"

    assert theirs.get(url).status_code == 302
    assert Client().login(username="c@b.example", password=ANSWER["password"])
    assert Client().get(link).status_code == 410


def test_another_password_of_ones_own_keeps_this_session_and_ends_the_others(market, enter):
    here, there = enter("buyer"), enter("buyer")
    change = {"old": PASSWORD, "password": ANSWER["password"], "again": ANSWER["password"]}
    assert Client().get("/account/password/").headers["Location"].startswith("/login/")
    assert "is not the password" in here.post("/account/password/", change | {"old": "no"}).content.decode()
    assert "differ" in here.post("/account/password/", change | {"again": "no"}).content.decode()

    assert here.post("/account/password/", change).headers["Location"] == "/portal/"

    assert here.get("/portal/").status_code == 200
    assert there.get("/portal/").status_code == 302
    assert Client().login(username="buyer@doors.example", password=ANSWER["password"])


def test_guessing_the_password_of_now_is_as_slow_as_signing_in(market, enter):
    client = enter("buyer")
    change = {"old": "no", "password": ANSWER["password"], "again": ANSWER["password"]}
    for _ in range(10):
        client.post("/account/password/", change)

    assert "Too many wrong passwords" in client.post("/account/password/", change | {"old": PASSWORD}).content.decode()
    assert Client().login(username="buyer@doors.example", password=PASSWORD)


def test_a_forgotten_password_is_set_by_a_letter_and_the_answer_tells_nothing(market, enter):
    known = Client().post("/password/", {"email": "BUYER@doors.example"})
    unknown = Client().post("/password/", {"email": "nobody@doors.example"})
    token = re.compile(r'name="csrfmiddlewaretoken" value="\w+"')
    assert known.status_code == unknown.status_code == 200
    assert token.sub("", known.content.decode()) == token.sub("", unknown.content.decode())
    assert "a link is on its way" in known.content.decode()

    drain(NOW + timedelta(days=365))

    assert [letter.to for letter in mail.outbox] == [["buyer@doors.example"]]
    link = re.search(r"http://testserver(/password/\S+)", str(mail.outbox[0].body))
    assert link
    Client().post(link[1], {k: ANSWER[k] for k in ("password", "again")})
    assert Client().login(username="buyer@doors.example", password=ANSWER["password"])
    assert Client().get(link[1]).status_code == 410
    assert m.AuditLine.objects.filter(action="ask_reset", subject="buyer@doors.example").count() == 1


def test_a_seat_that_is_switched_off_gets_no_letter(market, enter):
    colleague = make_seat(party=party_of("buyer"), email="c@b.example", password=PASSWORD, role="purchaser", now=NOW)
    owner = m.Seat.objects.get(user__email="buyer@doors.example")
    seats.switch_off(seat=colleague, by=owner, now=NOW)

    Client().post("/password/", {"email": "c@b.example"})
    drain(NOW + timedelta(days=365))

    assert mail.outbox == []


def test_links_are_asked_for_so_often_and_no_more(market):
    for _ in range(10):
        assert Client().post("/password/", {"email": "buyer@doors.example"}).status_code == 200

    refused = Client().post("/password/", {"email": "buyer@doors.example"})

    assert (refused.status_code, "Too many links" in refused.content.decode()) == (429, True)
    assert Client().post("/login/", {"username": "buyer@doors.example", "password": PASSWORD}).status_code == 302


def soon(hours: int = 0) -> datetime:
    return clock.now() + timedelta(hours=hours, minutes=1)


def letters() -> list[Outbox]:
    return list(Outbox.objects.filter(kind__startswith="parties.").order_by("run_at", "id"))


def test_an_invitation_is_mailed_after_the_act_and_its_job_keeps_neither_address_nor_secret(market, enter, settings):
    client, form = enter("buyer"), {"act": "invite", "email": "b@new.example", "role": "finance"}
    assert "It is not sent by mail" in client.post(reverse("portal:seats"), form).content.decode()
    settings.EMAIL_HOST = "mail.new.example"
    link = invite(client, "portal")
    assert mail.outbox == []  # no request waits for a mail server
    kept = " ".join(f"{job.payload} {job.dedupe_key}" for job in letters())
    assert "new.example" not in kept
    assert link.split("/")[2] not in kept

    drain(soon())

    by_address = {letter.to[0]: str(letter.body) for letter in mail.outbox}
    assert (len(mail.outbox), set(by_address)) == (2, {"b@new.example", "noa@new.example"})
    assert f"http://testserver{link}" in by_address["noa@new.example"]


def test_an_invitation_that_ended_or_whose_key_is_gone_is_not_mailed(market, enter, settings):
    client, url = enter("buyer"), reverse("portal:seats")
    invite(client, "portal")
    client.post(url, {"act": "withdraw", "id": m.Invitation.objects.get(email="noa@new.example").pk})
    drain(soon())
    assert (mail.outbox, [job.done_at is not None for job in letters()]) == ([], [True])

    invite(client, "portal", email="b@new.example")
    settings.SECRET_KEY = "another key of the server, which makes other links"
    drain(soon())

    assert (mail.outbox, "invite the address again" in letters()[-1].last_error) == ([], True)


def test_a_letter_that_no_server_takes_is_tried_so_often_parked_and_told(market, enter, settings):
    """Nobody listens at the port: a place of a closed socket of our own."""
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        settings.EMAIL_PORT = closed.getsockname()[1]  # bound, and nobody listens
        settings.EMAIL_BACKEND, settings.EMAIL_HOST = "django.core.mail.backends.smtp.EmailBackend", "127.0.0.1"
        settings.EMAIL_USE_TLS = False
        client, url = enter("buyer"), reverse("portal:seats")
        invite(client, "portal")
        assert "not mailed" not in client.get(url).content.decode()

        for hours in range(TRIES_MAX + 1):
            drain(soon(hours))

    assert [(job.kind, job.tries) for job in dead_jobs()] == [("parties.mail_invitation", TRIES_MAX)]
    assert "not mailed" in client.get(url).content.decode()
    staff = Client()
    house = m.Party.objects.get(slug="foundation")
    staff.force_login(seat(house, "ops@doors.example", "operations", is_staff=True))
    assert "parties.mail_invitation" in staff.get("/console/parked-jobs/").content.decode()
    settings.EMAIL_BACKEND = "django.core.mail.backends.locmem.EmailBackend"
    retry_job(id=dead_jobs().get().pk, now=soon(20))
    drain(soon(21))
    assert mail.outbox[0].to == ["noa@new.example"]


def test_a_stranger_s_address_is_kept_nowhere_and_the_same_row_is_written(market, enter):
    Client().post("/password/", {"email": "stranger@elsewhere.example"})
    Client().post("/password/", {"email": "buyer@doors.example"})
    drain(soon())

    user = m.User.objects.get(email="buyer@doors.example").pk
    rows = [(job.payload, job.done_at is not None) for job in letters()]
    told = {"root": "http://testserver/", "is_own": True}
    assert sorted(rows, key=str) == sorted([(told | {"user": None}, True), (told | {"user": user}, True)], key=str)
    assert "elsewhere" not in " ".join(f"{job.dedupe_key} {job.last_error}" for job in letters())
    assert [letter.to for letter in mail.outbox] == [["buyer@doors.example"]]


def test_without_a_mail_server_letters_are_files(tmp_path: Path, settings):
    settings.EMAIL_BACKEND, settings.EMAIL_FILE_PATH = "django.core.mail.backends.filebased.EmailBackend", tmp_path
    mail.send_mail("s", "body", None, ["a@b.example"])

    assert "body" in next(tmp_path.iterdir()).read_text()


def test_ten_seats_cost_no_more_queries_than_one(market, enter, django_assert_num_queries):
    client, url = enter("buyer"), reverse("portal:seats")
    for number in range(10):
        make_seat(party=party_of("buyer"), email=f"c{number}@b.example", password=None, role="purchaser", now=NOW)

    with django_assert_num_queries(8):
        client.get(url)


# --- limits of seats and changes, on the page of approvals -----------------------------------------------------------
def test_a_limit_of_a_seat_is_set_and_raised_by_two_on_the_page(market, enter):
    client, url, rules = enter("buyer"), reverse("portal:approvals"), reverse("portal:spending_rules")
    party = party_of("buyer")
    purchaser, approver = (
        make_seat(party=party, email=f"{role}@b.example", password=None, role=role, now=NOW)
        for role in ("purchaser", "approver")
    )
    own = m.Seat.objects.get(user__email="buyer@doors.example")
    refused = client.post(rules, {"what": "order_limit", "seat": own.pk, "order_max_micros": "5"})
    assert (refused.status_code, "same_person" in refused.content.decode()) == (422, True)
    client.post(rules, {"what": "order_limit", "seat": purchaser.pk, "order_max_micros": "1,200.50"})
    assert "$1,200.50" in client.get(url).content.decode()

    page = client.post(rules, {"what": "order_limit", "seat": purchaser.pk, "order_max_micros": ""}, follow=True)

    assert "another person has to let it" in page.content.decode()
    change = m.SpendingChange.objects.get()
    address = reverse("portal:spending_change", args=[change.pk])
    assert "same_person" in client.post(address, {"act": "let", "reason": "r"}, follow=True).content.decode()
    assert enter("other.buyer").post(address, {"act": "let", "reason": "r"}).status_code == 404
    theirs = Client()
    theirs.force_login(approver.user)
    assert "without an own limit" in theirs.get(url).content.decode()
    theirs.post(address, {"act": "let", "reason": "agreed"})
    assert m.SeatLimit.objects.get(seat=purchaser).order_max_micros is None


def test_the_rule_in_force_is_shown_and_what_was_typed_is_kept_when_refused(market, enter):
    client, url, rules = enter("buyer"), reverse("portal:approvals"), reverse("portal:spending_rules")
    assert "none is set" in client.get(url).content.decode()
    rule = {"what": "rule", "threshold_micros": "1,200.000001", "approvals_needed": "2", "needs_purchase_order": "on"}
    client.post(rules, rule)

    page = client.get(url)
    begins = {name: page.context["rule_form"][name].value() for name in page.context["rule_form"].fields}
    client.post(rules, {"what": "rule"} | {name: "on" if value is True else value for name, value in begins.items()})
    refused = client.post(rules, {"what": "rule", "threshold_micros": "900", "approvals_needed": "9"})

    assert "in force: $1,200.00, 2 approvals, purchase order" in page.content.decode()
    kept = m.SpendingRule.objects.get(party=party_of("buyer"))
    assert (kept.threshold_micros, kept.approvals_needed, kept.needs_purchase_order) == (1_200_000_001, 2, True)
    assert not m.SpendingChange.objects.exists()  # sent again as it was shown, nothing changes
    assert refused.status_code == 422
    assert refused.context["rule_form"]["threshold_micros"].value() == "900"


def test_what_a_seat_approves_is_raised_by_two_on_the_page_and_not_by_a_second_name(market, enter):
    client, url, rules = enter("buyer"), reverse("portal:approvals"), reverse("portal:spending_rules")
    approver = make_seat(party=party_of("buyer"), email="a@b.example", password=None, role="approver", now=NOW)
    Client().post(invite(client, "portal", role="approver"), ANSWER)
    second_name = Client()
    assert second_name.login(username="noa@new.example", password=ANSWER["password"])
    newcomer = m.Seat.objects.get(user__email="noa@new.example")

    page = client.post(rules, {"what": "limit", "seat": newcomer.pk, "limit_micros": "500"}, follow=True)
    assert "another person has to let it" in page.content.decode()
    client.post(rules, {"what": "rule", "threshold_micros": "5", "approvals_needed": "2"})
    client.post(rules, {"what": "rule", "threshold_micros": "9", "approvals_needed": "2"})
    limit, rule = m.SpendingChange.objects.order_by("kind")
    told = second_name.get(url).content.decode()
    assert "somebody else lets this" in told
    assert "Let it" not in told
    address = reverse("portal:spending_change", args=[rule.pk])
    refused = second_name.post(address, {"act": "let", "reason": "r"}, follow=True).content.decode()
    assert "same_person" in refused

    theirs = Client()
    theirs.force_login(approver.user)
    assert "approves up to $500" in theirs.get(url).content.decode()
    for change in (limit, rule):
        theirs.post(reverse("portal:spending_change", args=[change.pk]), {"act": "let", "reason": "agreed"})
    assert m.SeatLimit.objects.get(seat=newcomer).limit_micros == 500_000_000
    assert m.SpendingRule.objects.get(party=party_of("buyer")).threshold_micros == 9_000_000
