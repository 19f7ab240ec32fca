"""A chain behind CHAIN_URL: the same rails over HTTP, with a wire, estimates and finality in between."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from eth_abi.abi import encode

from ledger.models import ChainIntent
from ledger.rails import evm, indexer, sender
from ledger.rails.base import Chain
from ledger.rails.errors import ChainUnreachable, NodeNotReady, WrongChain
from ledger.rails.jsonrpc import JsonRpc, RpcRefusal
from tests.rails.conftest import START, Clock, minor
from tests.rails.test_story import BUYER, USD, Market

SINK = "0x" + "99" * 20


class Node:
    """The embedded chain served over HTTP; its finality can be held back."""

    def __init__(self, chain: Chain) -> None:
        assert chain.embedded is not None
        self.rpc = JsonRpc(chain.embedded)
        self.finalized: int | None = None
        self.instead: dict[str, dict[str, Any]] = {}  # method -> what is answered in place of the truth
        node = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_: Any) -> None:
                pass

            def do_POST(self) -> None:
                request = json.loads(self.rfile.read(int(self.headers["content-length"])))
                body = json.dumps({"jsonrpc": "2.0", "id": request["id"], **node.answer(request)}).encode()
                self.send_response(200)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        held = None if self.finalized is None else hex(self.finalized)
        params = [held if each == "finalized" and held else each for each in request["params"]]
        if request["method"] in self.instead:
            return self.instead[request["method"]]
        try:
            answer = self.rpc.answer(request["method"], params)
        except RpcRefusal as refusal:
            return {"error": refusal.answer}
        if request["method"] == "eth_getTransactionReceipt" and answer is not None:
            answer.pop("revertReason", None)  # most nodes do not keep it
        return {"result": answer}


@pytest.fixture
def node(rails: Chain, settings: Any) -> Iterator[Node]:
    """The deployed test chain, reached by the rails through CHAIN_URL only."""
    node = Node(rails)
    thread = threading.Thread(target=node.server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    settings.CHAIN_URL = node.url
    evm.use_chain(None)
    yield node
    evm.close_all()
    node.server.shutdown()
    node.server.server_close()
    thread.join()


def test_a_node_of_another_chain_is_refused(node: Node, settings: Any) -> None:
    assert evm.chain().chain_id == 31338
    settings.CHAIN_ID = 1

    with pytest.raises(WrongChain, match="speaks for chain 31338"):
        evm.chain()


def test_a_node_that_does_not_answer_is_named(node: Node, settings: Any) -> None:
    settings.CHAIN_URL = "http://127.0.0.1:9"

    with pytest.raises(ChainUnreachable, match="CHAIN_URL"):
        evm.chain()


def test_a_call_waits_for_the_one_it_builds_on(node: Node, clock: Clock) -> None:
    market = Market(evm.chain(), clock)
    market.fund()  # mint, approve, deposit: an estimate of the last fails until the first two are mined

    assert sender.pump(now=START) == sender.Pumped(sent=3, final=3)
    indexer.index(now=START)

    assert list(ChainIntent.objects.order_by("created_at").values_list("function", "state")) == [
        ("mint", "final"), ("approve", "final"), ("deposit", "final"),
    ]  # fmt: skip
    assert minor("buyer.available", BUYER) == 1_000 * USD


def test_a_call_that_would_revert_is_not_sent_unless_forced(node: Node) -> None:
    def mint_as_operator(key: str, force_gas: int | None) -> ChainIntent:
        return sender.submit(key=key, role="operator", contract="token", function="mint", args=[SINK, 1],
                             force_gas=force_gas, now=START)  # fmt: skip

    quiet, loud = mint_as_operator("quiet", None), mint_as_operator("loud", 200_000)
    assert sender.pump(now=START) == sender.Pumped(sent=1, reverted=2)

    quiet.refresh_from_db()
    loud.refresh_from_db()
    assert (quiet.revert_reason, quiet.tx_hash) == ("token: only the minter may mint", None)
    assert loud.revert_reason == "token: only the minter may mint"
    assert evm.chain().receipt(loud.tx_hash or "") is not None


def test_nothing_is_final_before_the_node_says_so(node: Node) -> None:
    node.finalized = evm.chain().head().number
    row = sender.submit(key="a", role="faucet", contract="token", function="mint", args=[SINK, 1], now=START)

    assert sender.pump(now=START) == sender.Pumped(sent=1)
    row.refresh_from_db()
    assert row.state == "sent"

    node.finalized += 1
    assert sender.pump(now=START) == sender.Pumped(final=1)
    row.refresh_from_db()
    assert row.state == "final"


LOST_BLOCK = {"error": {"code": -32602, "message": "BlockOutOfRangeError: block height is 16 but requested was 27"}}


@pytest.mark.parametrize("answer", [{"result": "0x"}, LOST_BLOCK], ids=["nothing", "a lost block"])
def test_a_node_without_the_state_asked_for_is_asked_again(node: Node, answer: dict[str, Any]) -> None:
    """As anvil while it replaces blocks: no answer is no balance of zero, and no refusal by the contract."""
    node.instead["eth_call"] = answer
    with pytest.raises(NodeNotReady):
        evm.chain().call("token", "balanceOf", SINK)

    node.instead.clear()
    assert evm.chain().call("token", "balanceOf", SINK) == 0


def test_an_estimate_that_the_node_cannot_make_ends_no_intent(node: Node) -> None:
    """A lost block is no revert: taken for one, it would end a payment that nobody sent."""
    row = sender.submit(key="a", role="faucet", contract="token", function="mint", args=[SINK, 5], now=START)
    node.instead["eth_estimateGas"] = LOST_BLOCK

    with pytest.raises(NodeNotReady):
        sender.pump(now=START)
    row.refresh_from_db()
    assert row.state == "queued"

    node.instead.clear()
    assert sender.pump(now=START) == sender.Pumped(sent=1, final=1)
    assert evm.chain().call("token", "balanceOf", SINK) == 5


NO_MONEY = {"error": {"code": -32000, "message": "insufficient funds for gas * price + value: balance 0, tx cost 9000"}}


def test_a_key_without_gas_money_waits_and_is_told_and_sends_once_it_has_some(node: Node) -> None:
    """Nothing is wrong with the call: ended as reverted, it would be a payment refused for want of some cents."""
    row = sender.submit(key="a", role="faucet", contract="token", function="mint", args=[SINK, 5], now=START)
    node.instead["eth_estimateGas"] = NO_MONEY

    assert sender.pump(now=START) == sender.Pumped()
    row.refresh_from_db()
    assert (row.state, row.nonce, row.gas_limit) == ("queued", None, None)
    assert row.trouble.endswith("cannot pay for gas.")

    node.instead.clear()
    assert sender.pump(now=START) == sender.Pumped(sent=1, final=1)
    row.refresh_from_db()
    assert (row.state, row.trouble) == ("final", "")
    assert evm.chain().call("token", "balanceOf", SINK) == 5


def test_a_contract_that_says_the_same_words_has_refused_the_call(node: Node) -> None:
    sentence = "insufficient funds of the pool"
    data = "0x08c379a0" + encode(["string"], [sentence]).hex()
    row = sender.submit(key="a", role="faucet", contract="token", function="mint", args=[SINK, 5], now=START)
    node.instead["eth_estimateGas"] = {"error": {"code": 3, "message": f"execution reverted: {sentence}", "data": data}}

    assert sender.pump(now=START) == sender.Pumped(reverted=1)
    row.refresh_from_db()
    assert (row.state, row.revert_reason) == ("reverted", sentence)
