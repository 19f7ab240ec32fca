"""The whole walk of a new buyer in a browser: it signs up, invites a colleague, and nobody approves alone."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import pytest
from django.core.cache import cache
from django.urls import reverse

from marketplace import models as m
from tests.browser.test_look import CONTRAST, CRAMPED, SIDEWAYS, SMALLEST_TEXT, UNLABELLED
from tests.doors.factories import seat

pytestmark = [pytest.mark.browser, pytest.mark.django_db]
PASSWORD = "a long enough password"


def seen(tab: Any, name: str) -> None:
    """What every page keeps; with `PICTURES` set, a picture of it for whoever wants to look."""
    assert tab.page.evaluate(SIDEWAYS) <= 0, name
    assert tab.page.evaluate(SMALLEST_TEXT) == [], name
    assert tab.page.evaluate(UNLABELLED) == [], name
    assert tab.page.evaluate(CONTRAST) == [], name
    assert tab.page.locator("h1").count() == 1, name
    folder = os.environ.get("PICTURES")
    if folder:
        width = tab.page.viewport_size["width"]
        tab.page.screenshot(path=Path(folder) / f"{name}-{width}.png", full_page=True)


def sign_in(tab: Any, email: str) -> None:
    tab.open("/login/")
    tab.page.get_by_label("E-mail").fill(email)
    tab.page.get_by_label("Password").fill(PASSWORD)
    tab.follow(tab.page.get_by_role("button", name="Sign in"))
    tab.page.wait_for_url("**/portal/")


@pytest.mark.parametrize("width", [390, pytest.param(1280, marks=pytest.mark.slow)])  # narrow, where pages break
def test_a_buyer_signs_up_invites_a_colleague_and_is_approved_by_it(width, look, site):
    cache.clear()
    owner, colleague = look(width), look(width)
    owner.open("/login/")
    seen(owner, "login")
    owner.follow(owner.page.get_by_role("link", name="Register as a buyer"))
    mail = f"owner{width}@walk.example"
    for label, text in (("Organisation", f"Walkers {width}"), ("Country", "DE"), ("Your e-mail", mail),
                        ("Country of the ultimate parent", "DE"), ("Password", PASSWORD)):  # fmt: skip
        owner.page.get_by_label(label, exact=True).fill(text)
    seen(owner, "register")
    owner.follow(owner.page.get_by_role("button", name="Register"))
    owner.page.wait_for_url("**/login/")
    sign_in(owner, mail)

    # the owner invites; the colleague takes the seat
    owner.open(reverse("portal:seats"))
    owner.page.get_by_label("E-mail of your colleague").fill(f"second{width}@walk.example")
    owner.page.get_by_label("Role", exact=True).select_option("approver")
    owner.follow(owner.page.get_by_role("button", name="Make the link"))
    link = re.search(r"/invitation/\S+/", owner.page.get_by_role("status").inner_text())
    assert link
    seen(owner, "invited")
    colleague.open(link[0])
    colleague.page.get_by_label("Your name").fill("Noa Neu")
    colleague.page.get_by_label("Password", exact=True).fill(PASSWORD)
    colleague.page.get_by_label("The same password again").fill(PASSWORD)
    seen(colleague, "take-the-seat")
    colleague.follow(colleague.page.get_by_role("button", name="Take the seat"))
    colleague.page.wait_for_url("**/login/")
    sign_in(colleague, f"second{width}@walk.example")
    owner.open(reverse("portal:seats"))
    owner.page.get_by_text("Change this seat").click()
    seen(owner, "seats")

    # a threshold, what the colleague approves, and a demand beyond it
    owner.open(reverse("portal:approvals"))
    form = owner.page.locator("form", has=owner.page.get_by_role("heading", name="Threshold"))
    form.get_by_label("Threshold").fill("100")
    owner.follow(form.get_by_role("button", name="Set"))
    owner.page.get_by_text("Set, and on the audit trail").wait_for()
    form = owner.page.locator("form", has=owner.page.get_by_role("heading", name="What a seat approves"))
    form.get_by_label("Seat", exact=True).select_option(index=1)
    form.get_by_label("Approves up to").fill("100000")
    owner.follow(form.get_by_role("button", name="Set"))
    owner.page.get_by_text("Set, and on the audit trail").wait_for()
    owner.open(reverse("portal:demand_new"))
    owner.page.get_by_label("Your reference").fill("WALK-1")
    owner.page.get_by_label("H100-80").check()
    owner.page.get_by_label("Units", exact=True).fill("16")
    owner.page.get_by_label("Price limit").fill("2.40")
    owner.follow(owner.page.get_by_role("button", name="Post demand"))
    owner.page.get_by_text("It waits for an approval.").wait_for()
    demand = m.Demand.objects.get(reference="WALK-1", party__name=f"Walkers {width}")
    assert demand.state == "pending"

    # raising the threshold waits for the colleague too
    owner.open(reverse("portal:approvals"))
    form = owner.page.locator("form", has=owner.page.get_by_role("heading", name="Threshold"))
    form.get_by_label("Threshold").fill("1000000")
    owner.follow(form.get_by_role("button", name="Set"))
    owner.page.get_by_text("another person has to let it").wait_for()
    seen(owner, "approvals-of-the-owner")
    colleague.open(reverse("portal:approvals"))
    seen(colleague, "approvals-of-the-colleague")
    row = colleague.page.get_by_role("row", name=re.compile("WALK-1"))
    row.get_by_label("Reason").fill("within plan")
    colleague.follow(row.get_by_role("button", name="Approve"))
    colleague.page.get_by_text("WALK-1 is posted now").wait_for()
    row = colleague.page.get_by_role("row", name=re.compile("Threshold"))
    row.get_by_label("Reason").fill("too much")
    colleague.follow(row.get_by_role("button", name="Refuse"))
    colleague.page.get_by_text("all stays as it was").wait_for()
    demand.refresh_from_db()
    assert demand.state == "posted"
    assert m.SpendingRule.objects.get(party=demand.party).threshold_micros == 100_000_000

    # the colleague changes the password, and is then switched off
    colleague.open("/account/password/")
    colleague.page.get_by_label("Password of now").fill(PASSWORD)
    colleague.page.get_by_label("Password", exact=True).fill("another long password")
    colleague.page.get_by_label("The same password again").fill("another long password")
    seen(colleague, "password")
    colleague.follow(colleague.page.get_by_role("button", name="Change the password"))
    colleague.page.get_by_text("The password is changed").wait_for()
    owner.open(reverse("portal:seats"))
    owner.page.get_by_text("Change this seat").click()
    owner.follow(owner.page.get_by_role("button", name="Switch off"))
    owner.page.get_by_text("is signed out").wait_for()
    colleague.open(reverse("portal:home"))
    assert "/login/" in colleague.page.url
    colleague.follow(colleague.page.get_by_role("link", name="Forgotten the password?"))
    seen(colleague, "forgotten")
    colleague.open(link[0])
    seen(colleague, "over")


@pytest.mark.parametrize("width", [390, pytest.param(1280, marks=pytest.mark.slow)])
def test_the_foundations_admin_invites_a_judge_in_the_console(width, look, site):
    cache.clear()
    tab, email = look(width), f"admin{width}@foundation.example"
    seat(m.Party.objects.get(slug="foundation"), email, "admin", is_staff=True)
    tab.open("/login/")
    tab.page.get_by_label("E-mail").fill(email)
    tab.page.get_by_label("Password").fill(PASSWORD)
    tab.follow(tab.page.get_by_role("button", name="Sign in"))
    tab.page.wait_for_url("**/console/")

    tab.open(reverse("admin:seats"))
    assert tab.page.evaluate(CRAMPED) == []
    tab.page.get_by_label("E-mail of your colleague").fill(f"judge{width}@foundation.example")
    tab.page.get_by_label("Role", exact=False).last.select_option("judge")
    tab.follow(tab.page.get_by_role("button", name="Make the link"))
    tab.page.get_by_text(f"Hand this link to judge{width}").wait_for()

    assert tab.page.evaluate(SIDEWAYS) <= 0
    assert set(tab.page.evaluate(UNLABELLED)) <= {"s"}  # the search of the frame, which is not ours
    folder = os.environ.get("PICTURES")
    if folder:
        tab.page.screenshot(path=Path(folder) / f"console-{width}.png", full_page=True)
    assert m.Invitation.objects.get(email=f"judge{width}@foundation.example").role == "judge"
