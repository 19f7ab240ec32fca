"""The statement as a file over the API: one's own rows, sums that agree with the balances, refusals that say why."""

from __future__ import annotations

import csv
import json

import pytest
from asgiref.sync import async_to_sync
from django.test import AsyncClient

from ledger.selectors import last_seq, statement
from marketplace import downloads

PATH = "/statement/file"


def read(answer) -> tuple[list[dict[str, str]], dict]:
    assert answer.status_code == 200, answer.content
    *lines, last = b"".join(answer.streaming_content).decode().splitlines()
    return list(csv.DictReader(lines)), json.loads(last.removeprefix("# "))


def test_the_file_is_ones_own_statement_and_its_sums_are_ones_balances(market, buyer):
    answer = buyer.get(PATH)
    rows, manifest = read(answer)

    assert [row["transfer"] for row in rows] == [str(x.transfer) for x in statement(market.buyers[0].pk)][::-1]
    assert json.loads(answer["Export-Manifest"]) == manifest
    assert (manifest["rows"], manifest["party"]) == (len(rows), str(market.buyers[0].pk))
    told = {}
    for account in buyer.get("/balances").json()["data"]:
        told[account["account"]] = told.get(account["account"], 0) + int(account["balance_micros"])
    assert {code: int(sums["closing_micros"]) for code, sums in manifest["sums"].items()} == told
    assert answer["Content-Type"].startswith("text/csv")
    assert f'filename="statement_{market.buyers[0].slug}_1-{last_seq()}.csv"' in answer["Content-Disposition"]


def test_a_range_is_a_part_of_it(buyer):
    whole, _ = read(buyer.get(PATH))
    middle = whole[len(whole) // 2]["seq"]
    part, manifest = read(buyer.get(PATH, from_seq=middle, to_seq=middle))

    assert part == [row for row in whole if row["seq"] == middle]
    assert (manifest["from_seq"], manifest["to_seq"]) == (int(middle), int(middle))


def test_nobody_gets_another_partys_file(market, buyer, other_buyer, provider, anybody):
    files = {id(who): read(who.get(PATH)) for who in (buyer, other_buyer, provider)}

    parties = [manifest["party"] for _, manifest in files.values()]
    assert parties == [str(p.pk) for p in (*market.buyers[:2], market.providers[0])]
    mine, theirs = ({row["transfer"] for row in rows if row["account"] == "buyer.available"}
                    for rows, _ in list(files.values())[:2])  # fmt: skip
    assert not mine & theirs
    assert (anybody.get(PATH).status_code, anybody.get(PATH).json()["code"]) == (401, "not_authenticated")
    named = buyer.get(PATH, party=f"pty_{market.buyers[1].pk.hex}")
    assert (named.status_code, named.json()["code"]) == (400, "bad_parameter")
    assert str(market.buyers[1].pk) not in named.content.decode()


@pytest.mark.parametrize(("query", "status", "code"), [
    ({"format": "xlsx"}, 422, "unknown_format"), ({"format": ""}, 422, "unknown_format"),
    ({"format": "csv\x00"}, 400, "unreadable_text"), ({"from_seq": "3", "to_seq": "2"}, 422, "range_reversed"),
    ({"to_seq": "999999999"}, 422, "seq_not_written"), ({"from_seq": "0"}, 422, "seq_not_written"),
    ({"from_seq": "-1"}, 422, "bad_input"), ({"from_seq": "9" * 30}, 422, "bad_input"),
    ({"to_seq": "1.5"}, 422, "bad_input"), ({"limit": "5"}, 400, "bad_parameter"),
])  # fmt: skip
def test_a_file_that_cannot_be_is_refused_by_its_code(buyer, counts, query, status, code):
    before = counts()
    answer = buyer.get(PATH, **query)

    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert answer["Content-Type"] == "application/problem+json"
    assert counts() == before


def test_an_asynchronous_server_is_handed_piece_by_piece_what_others_are(buyer, monkeypatch):
    monkeypatch.setattr(downloads, "PIECE_BYTES", 512)
    expected = list(buyer.get(PATH).streaming_content)

    async def pieces() -> list[bytes]:
        answer = await AsyncClient().get(f"/api/v1{PATH}", headers=buyer.headers)
        assert answer.is_async
        return [piece async for piece in answer.streaming_content]

    assert async_to_sync(pieces)() == expected
    assert max(len(piece) for piece in expected) == 512
    assert len(expected) > 2
