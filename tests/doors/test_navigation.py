"""The navigation: whoever sits at a door finds every page of it, and where they are."""

from __future__ import annotations

import re

import pytest
from django.urls import reverse

from marketplace import navigation

HERE = re.compile(r'href="([^"]+)" aria-current="page"')


def links(page) -> list[str]:
    return re.findall(r'<li><a href="([^"]+)"', page.content.decode().split('<nav class="desk"')[1].split("</nav>")[0])


@pytest.mark.parametrize(
    ("who", "entries"),
    [("buyer", navigation.BUYER + navigation.BUYER_MORE), ("provider", navigation.PROVIDER + navigation.PROVIDER_MORE)],
)
def test_every_link_opens_and_says_where_one_is(who, entries, enter):
    client = enter(who)
    for name, words in entries:
        page = client.get(reverse(name))

        assert page.status_code == 200, words
        assert links(page) == [reverse(each) for each, _ in entries]
        assert set(HERE.findall(page.content.decode())) >= {reverse(name)}, words


def test_a_page_below_another_is_found_under_it_and_not_under_the_door(enter):
    page = enter("buyer").get(reverse("portal:demand_new"))

    assert set(HERE.findall(page.content.decode())) == {reverse("portal:demands")}


def test_a_stranger_is_shown_the_market_and_no_other_door(enter):
    assert links(enter(None).get(reverse("market"))) == [reverse("market")]
