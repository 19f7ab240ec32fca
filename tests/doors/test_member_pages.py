"""Members, sub-sites and devices on the provider's dashboard, and a consortium's parts on the statement (M-023)."""

from __future__ import annotations

import pytest

from marketplace import models as m
from tests.doors.factories import NOW, Market

URL = "/onboarding/members/"


def test_a_split_is_set_from_the_page_and_a_bad_line_is_told(market: Market, enter) -> None:
    client, lead, other = enter("provider"), market.providers[0], market.providers[1]
    m.Party.objects.filter(pk=lead.pk).update(chain_address=None)  # the market makes and keeps its wallet

    for text, words in (
        (f"{lead.slug} 60\n{other.slug}", "Line 2"), (f"{lead.slug} 60\nnobody-here 40", "nobody-here"),
        (f"{lead.slug} 60\n{lead.slug} 40", "a second time"),
        (f"{lead.slug} 60\n{other.slug} 39.9999", "0.0001 per cent too little"),
        (f"{lead.slug} 60\n{other.slug} 50", "10 per cent too much"), (f"{lead.slug} 100\n{other.slug} 0", "above 0"),
        (f"{lead.slug} 101", "at most 100"), (f"{lead.slug} 33.33333", "four decimals"),
        (" \n ", "at least one member"),
        (f"{lead.slug} 60\n{other.slug[:-1]}x 40", "Did you mean"),
        (f"{lead.slug} 60\n{market.buyers[0].slug} 40", "No provider here"),
    ):  # fmt: skip
        answer = client.post(URL, {"act": "split", "split-shares": text})
        assert (answer.status_code, words in answer.content.decode()) == (422, True), text
    assert not m.RevenueSplit.objects.filter(party=lead).exists()

    answer = client.post(URL, {"act": "split", "split-shares": f"{lead.slug} 66.6667\n{other.slug} 33.3333 %"})

    assert answer.status_code == 302
    parts = m.SplitShare.objects.filter(split__party=lead).values_list("member__slug", "share_ppm")
    assert dict(parts) == {lead.slug: 666_667, other.slug: 333_333}
    assert other.name in client.get(URL).content.decode()


def test_a_site_is_given_to_a_member_and_a_device_enrolled_once_and_retired(market: Market, enter) -> None:
    client, lead, other = enter("provider"), market.providers[0], market.providers[1]
    site, node_class = lead.sites.first(), lead.node_classes.first()

    assert client.post(URL, {"act": "sub_site", "sub_site-site": str(site.pk),
                             "sub_site-member": other.slug}).status_code == 302  # fmt: skip
    assert m.SubSite.objects.get(site=site).member == other
    form = {"act": "device", "device-node_class": str(node_class.pk), "device-label": "rack 1",
            "device-device_key": "zz"}  # fmt: skip
    assert client.post(URL, form).status_code == 422
    assert client.post(URL, form | {"device-device_key": "0x" + "ab" * 32}).status_code == 302
    device = m.Device.objects.get(node_class=node_class)
    assert "rack 1" in client.get(URL).content.decode()

    retire = f"{URL}devices/{device.pk}/retire/"
    assert enter("newcomer").post(retire, {"reason": "mine now"}).status_code == 404
    client.post(retire, {"reason": ""})
    assert m.Device.objects.get(pk=device.pk).retired_at is None
    client.post(retire, {"reason": "sold"})
    assert m.Device.objects.get(pk=device.pk).retired_at is not None


@pytest.mark.parametrize("who", ["provider", "newcomer"])
def test_both_the_leader_and_the_member_see_the_part_on_their_statement(market: Market, enter, who: str) -> None:
    lead, member, seat = market.providers[0], market.providers[1], market.providers[0].seats.first()
    split = m.RevenueSplit.objects.create(id=_id(1), party=lead, from_at=NOW, seat=seat, made_at=NOW)
    for number, (party, ppm, micros) in enumerate(((lead, 600_000, 600_001), (member, 400_000, 400_000))):
        m.SplitShare.objects.create(split=split, member=party, share_ppm=ppm)
        m.MemberShare.objects.create(
            id=_id(10 + number), reference=bytes(36), lead=lead, node_class=lead.node_classes.first(), split=split,
            member=party, paid_micros=1_000_001, amount_micros=micros, made_at=NOW, final_at=NOW,
        )  # fmt: skip

    body = enter(who).get("/onboarding/statement/").content.decode()

    assert ("$0.400000" in body, "$0.600001" in body) == (True, who == "provider")
    assert enter("fresh").get("/onboarding/statement/").content.decode().count("$0.400000") == 0


def _id(number: int) -> object:
    from uuid import UUID

    return UUID(int=0x7000 << 64 | 0x8 << 60 | number)
