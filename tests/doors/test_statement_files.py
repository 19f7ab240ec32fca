"""A seat takes its own party's statement home, and nobody else's."""

from __future__ import annotations

import csv
import json

import pytest

from ledger.selectors import balance, statement

DOORS = {"buyer": "/portal/escrow/statement/", "provider": "/onboarding/statement/file/"}
PAGES = {"buyer": "/portal/escrow/", "provider": "/onboarding/statement/"}


def read(answer) -> tuple[list[dict[str, str]], dict]:
    assert answer.status_code == 200
    *lines, last = b"".join(answer.streaming_content).decode().splitlines()
    return list(csv.DictReader(lines)), json.loads(last.removeprefix("# "))


def party_of(market, who):
    return market.buyers[0] if who == "buyer" else market.providers[0]


@pytest.mark.parametrize("who", DOORS)
def test_the_page_leads_to_the_file_and_the_file_is_ones_own(market, enter, who):
    client, party = enter(who), party_of(market, who)
    page = client.get(PAGES[who]).content.decode()
    rows, manifest = read(client.get(DOORS[who]))

    for format in ("csv", "parquet"):
        assert f'{DOORS[who]}?format={format}"' in page
    assert [row["transfer"] for row in rows] == [str(line.transfer) for line in statement(party.pk)][::-1]
    assert rows
    assert manifest["party"] == str(party.pk)
    for code, sums in manifest["sums"].items():
        assert int(sums["closing_micros"]) == balance(code=code, party=party.pk).minor


@pytest.mark.parametrize("who", DOORS)
def test_no_word_in_the_address_leads_to_another_partys_file(market, enter, who):
    other = market.buyers[1]
    named = {"party": other.slug, "id": str(other.pk)}
    rows, manifest = read(enter(who).get(DOORS[who], named))

    assert manifest["party"] == str(party_of(market, who).pk)
    assert not {row["transfer"] for row in rows if row["account"] == "buyer.available"} & {
        str(line.transfer) for line in statement(other.pk)}  # fmt: skip
    stranger, wrong_door = enter(None), enter("provider" if who == "buyer" else "buyer")
    assert stranger.get(DOORS[who]).status_code == 302
    assert wrong_door.get(DOORS[who]).status_code == 404
    assert enter(who).post(DOORS[who]).status_code == 405


@pytest.mark.parametrize("who", DOORS)
@pytest.mark.parametrize(("query", "tag"), [
    ({"format": "xlsx"}, "unknown_format"), ({"from_seq": "2", "to_seq": "1"}, "range_reversed"),
    ({"to_seq": "99999999"}, "seq_not_written"), ({"from_seq": "one"}, "bad_input"),
])  # fmt: skip
def test_a_file_that_cannot_be_is_refused_on_the_page_it_was_asked_for_on(market, enter, who, query, tag):
    answer = enter(who).get(DOORS[who], query)

    assert (answer.status_code, answer["Location"]) == (302, PAGES[who])
    assert tag in answer.wsgi_request._messages._queued_messages[0].tags
