"""The API client against a real HTTP server: one key for all attempts, patience where it helps, refusals with facts."""

import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest

from marketplace.agent.client import ApiClient, key_of
from marketplace.agent.errors import ServerRefused, ServerUnreachable

BID = {"window": "w1", "resource_class": "CPU", "quantity_units": 4, "price_ask_micros": 120_000}


class Market(ThreadingHTTPServer):
    """Answers from a list, oldest first, and remembers what it was sent."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), MarketHandler)
        self.answers: list[tuple[int, dict[str, str], object]] = []
        self.seen: list[dict[str, object]] = []
        self.url = f"http://127.0.0.1:{self.server_port}"


class MarketHandler(BaseHTTPRequestHandler):
    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.seen.append({"path": self.path, "headers": dict(self.headers), "body": body})
        status, headers, answer = self.server.answers.pop(0)
        data = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
        self.send_response(status)
        for name, text in ({"Content-Length": str(len(data))} | headers).items():
            self.send_header(name, text)
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *arguments):
        pass


@pytest.fixture
def market():
    server = Market()
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def waits():
    return []


@pytest.fixture
def client(market, waits):
    with ApiClient(market.url, api_key="gx_secret", sleep_seconds=waits.append) as client:
        yield client


def keys_of(market):
    return [seen["headers"]["Idempotency-Key"] for seen in market.seen]


def test_a_bid_is_posted_with_key_and_idempotency_key(market, client):
    market.answers = [(201, {}, {"id": "b1"})]

    assert client.post_bid(BID, idempotency_key="mine") == {"id": "b1"}

    (seen,) = market.seen
    assert (seen["path"], seen["body"]) == ("/api/v1/bids", BID)
    assert seen["headers"]["Authorization"] == "Bearer gx_secret"
    assert keys_of(market) == ["mine"]


def test_the_same_bid_makes_the_same_key_in_any_order_of_its_fields():
    assert key_of(BID) == key_of(dict(reversed(BID.items())))
    assert key_of(BID) != key_of(BID | {"quantity_units": 5})


def test_a_busy_market_is_asked_again_under_the_same_key(market, client, waits):
    market.answers = [
        (503, {}, {}), (429, {"Retry-After": "7"}, {}), (409, {"Retry-After": "1"}, {}), (200, {}, {"id": "b1"}),
    ]  # fmt: skip

    assert client.post_bid(BID) == {"id": "b1"}

    assert waits == [1.0, 7.0, 1.0]
    assert set(keys_of(market)) == {key_of(BID)}


def test_a_market_that_stays_busy_is_given_up_after_four_attempts(market, client, waits):
    market.answers = [(503, {"Retry-After": "900"}, {})] * 4

    with pytest.raises(ServerRefused) as refusal:
        client.post_bid(BID)
    assert refusal.value.facts["status"] == 503
    assert waits == [30.0] * 3


def test_a_refusal_carries_the_problem_and_is_not_repeated(market, client, waits):
    problem = {"type": "/problems/demand_first", "title": "No bid before funded demand.", "status": 409,
               "code": "demand_first", "funded_units": 0}  # fmt: skip
    market.answers = [(409, {"Content-Type": "application/problem+json"}, problem)]

    with pytest.raises(ServerRefused, match=r"No bid before funded demand\.") as refusal:
        client.post_bid(BID)
    assert refusal.value.facts["problem_code"] == "demand_first"
    assert refusal.value.facts["problem"] == {"funded_units": 0}
    assert waits == []


@pytest.mark.parametrize("answer", [b"<html>", b"[1]"])
def test_an_answer_that_is_no_object_is_refused(market, client, answer):
    market.answers = [(200, {}, answer), (500, {}, answer)]

    with pytest.raises(ServerRefused, match="object"):
        client.post_bid(BID)
    with pytest.raises(ServerRefused, match="500"):
        client.post_bid(BID)


def test_an_unreachable_market_says_so(waits):
    with (
        ApiClient("http://127.0.0.1:1", api_key="gx_secret", sleep_seconds=waits.append) as client,
        pytest.raises(ServerUnreachable),
    ):
        client.post_bid(BID)
    assert len(waits) == 3


@pytest.mark.parametrize("key", ["", "secret", "gx_\n", "gx_ü"])
def test_an_api_key_of_another_form_is_refused_before_anything_is_sent(key):
    with pytest.raises(ServerRefused, match="gx_"):
        ApiClient("http://127.0.0.1:1", api_key=key)


@pytest.mark.parametrize("server", [
    "http://grove.example", "http://192.0.2.7:8000", "http://127.0.0.1.grove.example", "http://localhost.grove.example",
    "http://127.0.0.1@grove.example", "http://[2001:db8::1]", "http://[::",
])  # fmt: skip
def test_plain_http_to_another_host_is_refused_before_anything_is_sent(server, monkeypatch):
    monkeypatch.delenv("GROVE_PLAIN_HTTP", raising=False)

    with pytest.raises(ServerRefused) as refusal:
        ApiClient(server, api_key="gx_live_none")
    assert refusal.value.facts["problem_code"] == "plain_http"


@pytest.mark.parametrize("server", [
    "https://grove.example", "http://127.0.0.1:8000", "http://localhost", "http://[::1]:8000",
])  # fmt: skip
def test_https_anywhere_and_plain_http_on_this_machine_are_taken(server, monkeypatch):
    monkeypatch.delenv("GROVE_PLAIN_HTTP", raising=False)

    with ApiClient(server, api_key="gx_live_none"):
        pass


def test_plain_http_is_taken_where_somebody_says_that_the_way_is_safe(monkeypatch):
    monkeypatch.setenv("GROVE_PLAIN_HTTP", "1")

    with ApiClient("http://192.0.2.7:8000", api_key="gx_live_none"):
        pass
