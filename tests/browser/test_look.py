"""What a person meets in a browser: pages that fit, can be read, can be used by keyboard, and load nothing foreign."""

from __future__ import annotations

import re

import pytest
from django.conf import settings
from django.test import Client
from django.urls import reverse

from marketplace import models as m

pytestmark = [pytest.mark.browser, pytest.mark.django_db]
SMALLEST_TEXT = """() => [...document.querySelectorAll('body *')].flatMap(e => {
  if (e.closest('svg') && e.tagName !== 'text') return [];
  if (![...e.childNodes].some(n => n.nodeType === 3 && n.textContent.trim())) return [];
  const box = e.getBoundingClientRect();
  if (!box.width || !box.height || e.closest('.visually-hidden')) return [];
  let size = parseFloat(getComputedStyle(e).fontSize);
  if (e.tagName === 'text') size *= e.ownerSVGElement.getBoundingClientRect().width / e.ownerSVGElement.viewBox.baseVal.width;
  return size < 11 ? [`${e.textContent.trim().slice(0, 30)}: ${size.toFixed(1)} px`] : [];
})"""  # noqa: E501
SIDEWAYS = "() => document.documentElement.scrollWidth - document.documentElement.clientWidth"
UNLABELLED = """() => [...document.querySelectorAll('input:not([type=hidden]), select, textarea')]
  .filter(e => !(e.labels && e.labels.length) && !e.ariaLabel).map(e => e.name)"""
CONTRAST = """() => {
  const parse = c => { const n = c.match(/[\\d.]+/g).map(Number); return n.length > 3 ? n : [...n, 1]; };
  const light = ([r, g, b]) => { const f = v => { v /= 255; return v <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4; };
    return .2126 * f(r) + .7152 * f(g) + .0722 * f(b); };
  const behind = e => { for (; e; e = e.parentElement) { const c = parse(getComputedStyle(e).backgroundColor);
    if (c[3] > .99) return c; } return [255, 255, 255, 1]; };
  return [...document.querySelectorAll('main *, header *, footer *')].flatMap(e => {
    if (e.closest('svg') || ![...e.childNodes].some(n => n.nodeType === 3 && n.textContent.trim())) return [];
    const box = e.getBoundingClientRect(); if (!box.width || !box.height) return [];
    const [a, b] = [light(parse(getComputedStyle(e).color)), light(behind(e))].sort((x, y) => y - x);
    const ratio = (a + .05) / (b + .05);
    return ratio < 4.5 ? [`${e.textContent.trim().slice(0, 30)}: ${ratio.toFixed(2)}`] : [];
  });
}"""  # noqa: E501


def pages_of(site, who: str) -> list[str]:
    if who == "stranger":
        return ["/login/", "/market/", "/market/claims/", "/market/coverage/", "/market/demand/", "/market/fees/",
                "/nothing/"]  # fmt: skip
    if who == "buyer":
        party = site.market.buyers[0]
        lease = next(x for x in site.market.leases if x.buyer_id == party.pk and x.verdict.is_breach)
        lost = m.Demand.objects.filter(party=party, state="lost").first()
        windows = [site.market.settled, site.market.bidding, site.market.collecting]
        names = ["home", "workloads", "cost", "savings", "windows", "demands", "demand_new", "leases", "escrow",
                 "invoices"]
        return [
            *(reverse(f"portal:{name}") for name in names), reverse("portal:lease", args=[lease.pk]),
            reverse("portal:demand", args=[lost.pk]), reverse("portal:worth", args=[lost.pk]),
            *(reverse("portal:window", args=[w.pk]) for w in windows),
        ]  # fmt: skip
    names = ["home", "imports", "break_even", "classes", "arming", "bids", "bid_new", "leases", "statement", "payouts"]
    own = m.NodeClass.objects.filter(party=site.market.providers[0]).first()
    return [*(reverse(f"onboarding:{name}") for name in names), reverse("onboarding:class", args=[own.pk])]


@pytest.mark.parametrize(
    ("who", "width"),
    [
        ("stranger", 360), ("buyer", 360), ("provider", 360), ("buyer", 1280),  # where pages break, and one wide
        pytest.param("stranger", 1280, marks=pytest.mark.slow), pytest.param("provider", 1280, marks=pytest.mark.slow),
    ],
)  # fmt: skip
def test_every_page_fits_and_can_be_read(who, width, look, site):
    tab = look(width)
    if who != "stranger":
        tab.sign_in(who)

    for path in pages_of(site, who):
        tab.open(path)
        assert tab.page.evaluate(SIDEWAYS) <= 0, path
        assert tab.page.evaluate(SMALLEST_TEXT) == [], path
        assert tab.page.evaluate(UNLABELLED) == [], path
        assert tab.page.locator("h1").count() == 1, path


CONSOLE_FORMS = ("maker", "rules", "vouchers", "incidents", "funding_lines", "round_trips")
# Fields of a form that are too narrow to read what is typed, or stand over one another.
CRAMPED = """() => [...document.querySelectorAll('.gx-fields > div')].flatMap(box => {
  const field = box.querySelector('input:not([type=checkbox]), select'), label = box.querySelector('label');
  if (!field || !label) return [];
  const f = field.getBoundingClientRect(), l = label.getBoundingClientRect(), b = box.getBoundingClientRect();
  return f.width >= 180 && Math.abs(f.width - b.width) < 2 && l.bottom <= f.top + 1 && f.height >= 36
    ? [] : [`${label.textContent.trim()}: ${f.width.toFixed(0)} x ${f.height.toFixed(0)}`];
})"""


@pytest.mark.parametrize("width", [390, pytest.param(1280, marks=pytest.mark.slow)])
def test_the_forms_of_the_console_fit_and_each_field_stands_under_its_label(width, look, site):
    tab = look(width)
    user = m.User.objects.filter(email="looker@foundation.example").first()
    visitor = Client()
    visitor.force_login(user or m.User.objects.create_superuser("looker@foundation.example", "correct horse battery"))
    tab.page.context.add_cookies([{"name": settings.SESSION_COOKIE_NAME, "url": site.url,
                                   "value": visitor.cookies[settings.SESSION_COOKIE_NAME].value}])  # fmt: skip

    for name in CONSOLE_FORMS:
        tab.open(reverse(f"admin:{name}"))
        assert tab.page.evaluate("() => document.querySelectorAll('.gx-fields > div').length") > 1, name
        assert tab.page.evaluate(CRAMPED) == [], name
        assert tab.page.evaluate(SIDEWAYS) <= 0, name


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_from_what_is_behind_it(scheme, look, site):
    tab = look(scheme=scheme)
    tab.sign_in("buyer")
    assert tab.page.locator("html").get_attribute("data-bs-theme") == scheme

    for path in pages_of(site, "buyer")[::2]:
        tab.open(path)
        assert tab.page.evaluate(CONTRAST) == [], path


def focused(tab, name: str) -> None:
    """Wait until the keyboard is in the part of that name: a browser moves it after the page is there."""
    tab.page.wait_for_function("name => document.activeElement?.id === name", arg=name)


def test_a_buyer_posts_and_funds_demand_by_keyboard_alone(look, site):
    tab = look()
    tab.sign_in("buyer")
    window = site.market.collecting
    tab.open(reverse("portal:demand_new"))

    tab.page.get_by_label("Your reference").focus()
    tab.page.keyboard.type("BROWSER-1")
    tab.page.get_by_label("H100-80").focus()
    tab.page.keyboard.press("Space")
    for label, text in (("Units", "16"), ("Price limit", "2.40005")):
        tab.page.get_by_label(label, exact=True).focus()
        tab.page.keyboard.type(text)
    tab.page.keyboard.press("Enter")

    summary = tab.page.locator("#errors")
    summary.wait_for()
    focused(tab, "errors")
    summary.get_by_role("link", name=re.compile("Price limit")).focus()
    tab.page.keyboard.press("Enter")
    assert "price_off_tick" in tab.page.locator("#id_price_limit_micros_error").inner_text()
    tab.page.get_by_label("Price limit").fill("2.40")
    tab.page.get_by_role("button", name="Post demand").press("Enter")
    tab.page.get_by_role("button", name=re.compile("Hold .* and fund")).press("Enter")

    tab.page.get_by_text("Funded: the hold is in place").wait_for()
    demand = m.Demand.objects.get(window=window, reference="BROWSER-1")
    assert (demand.state, demand.price_limit_micros, demand.unit_hours) == ("funded", 2_400_000, 384)


def test_the_menu_of_a_phone_opens_and_leads_on(look):
    tab = look(360)
    tab.sign_in("provider")
    assert not tab.page.get_by_role("link", name="Statement").is_visible()

    tab.page.get_by_text("Menu", exact=True).click()
    tab.follow(tab.page.get_by_role("link", name="Statement"))

    tab.page.wait_for_url("**/onboarding/statement/")


def test_the_first_tab_stop_skips_to_the_content(look):
    tab = look()
    tab.open("/market/")

    tab.page.keyboard.press("Tab")
    tab.page.keyboard.press("Enter")

    focused(tab, "content")


def test_a_theme_that_was_chosen_wins_over_the_system(look):
    tab = look(scheme="light")
    tab.open("/market/")

    tab.page.get_by_text("Theme", exact=True).first.click()
    tab.page.get_by_role("button", name="Dark").first.click()

    tab.page.wait_for_function("document.documentElement.dataset.bsTheme === 'dark'")


def test_progress_is_polled_and_stops_when_the_job_is_done(look):
    tab = look()
    tab.page.clock.install()
    tab.sign_in("buyer")
    asked: list[int] = []
    tab.page.on("response", lambda r: asked.append(r.status) if "_progress" in r.url else None)

    with tab.page.expect_response(re.compile("_progress")):
        tab.page.clock.run_for(5_500)
    m.Progress.objects.filter(job="demo").update(outcome="done", done=15, sentence="The world stands.")
    with tab.page.expect_response(lambda r: "_progress" in r.url and r.status == 286):
        tab.page.clock.run_for(5_500)
    tab.page.get_by_text("The world stands.").wait_for()
    tab.page.clock.run_for(20_000)

    # The page's clock also goes by itself: on a slow machine it asks once more before the job is done, never after.
    assert set(asked[:-1]) == {200}
    assert asked[-1] == 286


@pytest.mark.parametrize(("who", "path"), [("buyer", "/portal/"), ("provider", "/onboarding/"), (None, "/market/")])
def test_a_first_load_weighs_at_most_150_kb(who, path, look):
    tab = look()
    if who:
        tab.sign_in(who)
        cookies = tab.page.context.cookies()
        tab = look()
        tab.page.context.add_cookies(cookies)

    sizes = tab.weigh(path)

    assert len(sizes) >= 4
    assert sum(sizes.values()) <= 150 * 1024, sizes
