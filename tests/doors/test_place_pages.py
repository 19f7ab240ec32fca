"""Sites and machines on the provider's dashboard: registered, changed after what it voids was shown, taken back."""

from __future__ import annotations

from uuid import UUID

from django.urls import reverse

from marketplace import models as m
from tests.doors.factories import Market

URL = "/onboarding/places/"
SITE = {
    "act": "site", "site-code": "ulm-1", "site-city": "Ulm", "site-country": "de", "site-lat": "48.4",
    "site-lon": "10.0", "site-operator_country": "DE", "site-keys_country": "DE",
}  # fmt: skip


def fields_of(site: m.Site) -> dict[str, object]:
    return {name: getattr(site, name) for name in ("city", "country", "lat", "lon", "operator_country", "keys_country")}


def test_a_provider_registers_a_site_and_enrols_machines_there(market: Market, enter) -> None:
    client, party = enter("provider"), market.providers[0]

    bad = client.post(URL, SITE | {"site-lat": "91", "site-country": "GERMANY"})
    assert (bad.status_code, b"Latitude" in bad.content) == (422, True)
    assert client.post(URL, SITE).status_code == 302
    site = m.Site.objects.get(party=party, code="ulm-1")
    assert site.country == "DE"

    machines = {"act": "class", "class-site": str(site.pk), "class-resource_class": "H100-80", "class-units": "4",
                "class-tier": "1", "class-claimed_name": "rack 7"}  # fmt: skip
    assert client.post(URL, machines | {"class-units": "0"}).status_code == 422
    assert client.post(URL, machines).status_code == 302
    assert m.NodeClass.objects.get(site=site).units == 4
    assert "rack 7" in client.get(reverse("onboarding:place_class", args=[site.node_classes.get().pk])).content.decode()


def test_what_a_change_voids_is_shown_before_it_is_made_and_it_is_taken_back(market: Market, enter) -> None:
    client, party = enter("fresh"), market.providers[5]
    site = party.sites.get()
    path, fields = reverse("onboarding:place", args=[site.pk]), fields_of(site) | {"reason": "the lab moved"}

    shown = client.post(path, fields | {"act": "preview", "city": "Ulm", "lat": "48.4"}).content.decode()
    site.refresh_from_db()
    assert "all evidence of the site" in shown
    assert "proof of its machines" in shown
    assert site.city != "Ulm"

    assert client.post(path, fields | {"act": "save", "city": "Ulm", "lat": "48.4", "reason": ""}).status_code == 422
    assert client.post(path, fields | {"act": "save", "city": "Ulm", "lat": "48.4"}).status_code == 302
    row = m.SupplyChange.objects.get(site=site)
    body = client.get(URL).content.decode()
    assert "the lab moved" in body
    assert "Take back" in body

    undo = reverse("onboarding:place_undo", args=[row.pk])
    assert enter("newcomer").post(undo).status_code == 404
    client.post(undo)
    site.refresh_from_db()
    assert (site.city, site.moved_at) != ("Ulm", row.at)
    assert "taken back" in client.get(URL).content.decode()


def test_machines_under_bids_do_not_move_and_a_stranger_finds_nothing(market: Market, enter) -> None:
    client, node_class = enter("provider"), market.providers[0].node_classes.first()
    path = reverse("onboarding:place_class", args=[node_class.pk])
    fields = {"claimed_name": node_class.claimed_name, "units": node_class.units + 1, "tier": node_class.tier,
              "resource_class": node_class.resource_class_id, "reason": "more", "act": "save"}  # fmt: skip

    refused = client.post(path, fields)

    assert (refused.status_code, b"capacity_promised" in refused.content) == (422, True)
    retired = client.post(path, {"act": "retire", "reason": "sold"}, follow=True).content.decode()
    assert "Bids or leases stand" in retired
    assert enter("newcomer").get(path).status_code == 404
    assert client.get(reverse("onboarding:place", args=[UUID(int=7)])).status_code == 404


def test_a_class_is_retired_and_brought_back_from_its_page(market: Market, enter) -> None:
    client, party = enter("fresh"), market.providers[5]
    node_class = party.node_classes.first()
    path = reverse("onboarding:place_class", args=[node_class.pk])

    client.post(path, {"act": "retire", "reason": "end of life"})
    node_class.refresh_from_db()
    assert node_class.retired_at is not None
    assert "Bring it back" in client.get(path).content.decode()

    client.post(path, {"act": "return", "reason": "needed after all"})
    node_class.refresh_from_db()
    assert node_class.retired_at is None
