"""The embedded chain over HTTP: web3.py and ethers (npm) use it, and nobody can ask for too much."""

from __future__ import annotations

import http.client
import json
import shutil
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from web3 import HTTPProvider, Web3

from ledger.rails import abi, embedded, evm, http_door
from ledger.rails.base import Chain
from ledger.rails.deploy import create_address
from ledger.rails.store import MemoryStore
from tests.rails import writer
from tests.rails.anvil import ETHERS, installed
from tests.rails.conftest import START, Clock
from tests.rails.writer import SINK, account, signed, token_code, transfer

TOKEN = create_address(account(1).address, 0)
PATIENCE_SECONDS = 300  # only ends what hangs

ETHERS_SCRIPT = """
if (parseInt(process.versions.node) < 18) process.exit(18);
const { JsonRpcProvider, Wallet, Contract } = require("ethers");
(async () => {
  const [url, key, token, sink] = process.argv.slice(1);
  const provider = new JsonRpcProvider(url, undefined, { staticNetwork: true });
  const wallet = new Wallet(key, provider);
  const abi = ["function transfer(address,uint256) returns (bool)",
               "function balanceOf(address) view returns (uint256)",
               "function mint(address,uint256)", "event Transfer(address indexed a, address indexed b, uint256 v)"];
  const contract = new Contract(token, abi, wallet);
  const receipt = await (await contract.transfer(sink, 7)).wait();
  const logs = await contract.queryFilter("Transfer", receipt.blockNumber, receipt.blockNumber);
  let refusal = "";
  try { await contract.connect(new Wallet("0x" + "02".padStart(64, "0"), provider)).mint(sink, 1); }
  catch (error) { refusal = error.reason || error.shortMessage; }
  const block = await provider.getBlock("finalized", true);
  console.log(JSON.stringify({ chainId: (await provider.getNetwork()).chainId.toString(), status: receipt.status,
    balance: (await contract.balanceOf(sink)).toString(), value: logs[0].args[2].toString(), refusal,
    block: block.number === receipt.blockNumber && block.transactions[0] === receipt.hash }));
  provider.destroy();
})().catch((error) => { console.error(error); process.exit(1); });
"""


@pytest.fixture
def chain(clock: Clock) -> Chain:
    chain = evm.open_embedded(MemoryStore(), writer.CHAIN_ID)
    assert chain.embedded is not None
    mint = abi.encode_call("token", "mint", [account(1).address, writer.MINTED])
    chain.embedded.mine([signed(1, 0, to=None, data=token_code()), signed(1, 1, to=TOKEN, data=mint)], at=START)
    clock.forward(hours=1)
    return chain


@pytest.fixture
def url(chain: Chain) -> Iterator[str]:
    assert chain.embedded is not None
    server = http_door.serve(chain.embedded, 0)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


def ask(url: str, body: Any, **headers: str) -> Any:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"content-type": "application/json", **headers})
    with urllib.request.urlopen(request, timeout=PATIENCE_SECONDS) as answer:
        return json.load(answer)


def request(method: str, *params: Any) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}


def test_web3_reads_and_writes_through_the_door(url: str) -> None:
    w3 = Web3(HTTPProvider(url))
    tx_hash = w3.eth.send_raw_transaction(transfer(1, 2, TOKEN, 9))
    assert w3.eth.wait_for_transaction_receipt(tx_hash)["status"] == 1
    contract = w3.eth.contract(address=TOKEN, abi=list(abi.load("token").abi))  # type: ignore[call-overload]
    assert contract.functions.balanceOf(SINK).call() == 9
    assert len(w3.eth.get_block_receipts("latest")) == 1


def test_ethers_reads_and_writes_through_the_door(url: str) -> None:
    if shutil.which("node") is None:
        pytest.skip("node is not installed: a second client is NOT tested here")
    folder = installed(ETHERS)
    key = f"0x{1:064x}"
    done = subprocess.run(["node", "-e", ETHERS_SCRIPT, url, key, TOKEN, SINK], cwd=folder, capture_output=True,
                          text=True, timeout=PATIENCE_SECONDS, check=False)  # fmt: skip
    if done.returncode == 18:
        pytest.skip("node is older than 18, and ethers needs that: a second client is NOT tested here")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {
        "chainId": "31338", "status": 1, "balance": "7", "value": "7", "block": True,
        "refusal": "token: only the minter may mint",
    }  # fmt: skip


def test_the_door_is_on_this_machine_only_and_for_its_own_name(url: str) -> None:
    assert http_door.HOST == "127.0.0.1"
    with pytest.raises(urllib.error.HTTPError, match="403"):
        ask(url, request("eth_chainId"), host="evil.example")
    assert ask(url, request("eth_chainId"))["result"] == hex(31338)


def test_too_much_is_refused(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=PATIENCE_SECONDS)
    connection.putrequest("POST", "/")
    connection.putheader("content-length", str(http_door.BODY_BYTES_MAX + 1))
    connection.endheaders()
    assert connection.getresponse().status == 413, "refused before a byte of it is read"
    connection.close()
    assert "1 to 50" in ask(url, [request("eth_chainId")] * 51)["error"]["message"]
    assert len(ask(url, [request("eth_chainId")] * 50)) == 50
    monkeypatch.setattr(http_door, "LOG_BLOCKS_MAX", 0)
    told = ask(url, request("eth_getLogs", {"fromBlock": "earliest", "toBlock": "latest"}))
    assert "at most 0 blocks" in told["error"]["message"]
    monkeypatch.setattr(http_door, "CALL_GAS_MAX", 100)
    assert "error" in ask(url, request("eth_call", {"to": TOKEN, "data": "0x", "gas": "0xffffffff"}, "latest"))


@pytest.mark.parametrize("body", [b"", b"{", b"[" * 900_000, b"7", b"[]", b'{"method": 7}', b'{"method": "eth_call"}',
                                  b'{"method": "eth_call", "params": [{"to": "x"}]}', b'{"method": "no_such"}',
                                  b'{"method": "eth_getBlockByNumber", "params": ["zz", false]}'])  # fmt: skip
def test_what_makes_no_sense_is_answered_and_the_door_stays_open(url: str, body: bytes) -> None:
    told = ask(url, body)
    assert isinstance(told["error"]["code"], int)
    assert ask(url, request("eth_chainId"))["result"] == hex(31338)


def test_a_chain_that_has_run_ahead_of_the_clock_takes_no_more(url: str, chain: Chain, clock: Clock) -> None:
    assert chain.embedded is not None
    at = clock.now
    for nonce in range(2, 6):
        chain.embedded.mine([transfer(1, nonce, TOKEN)], at=at)
    raw = "0x" + transfer(1, 6, TOKEN).hex()
    assert "ahead of the clock" in ask(url, request("eth_sendRawTransaction", raw))["error"]["message"]
    clock.forward(seconds=5)
    assert "result" in ask(url, request("eth_sendRawTransaction", raw))


def test_an_answer_through_the_door_waits_no_forty_milliseconds_for_an_acknowledgement(url: str) -> None:
    """An answer in two parts would, each time: so the fastest tells, however busy the machine is with other things."""
    embedded.use_clock(lambda: datetime(2030, 1, 1, tzinfo=UTC))
    w3 = Web3(HTTPProvider(url))
    for _ in range(20):  # a new connection acknowledges the first parts at once
        assert w3.eth.chain_id == 31338
    give_up_at, fastest = time.monotonic() + PATIENCE_SECONDS, 1.0
    while fastest > 0.03 and time.monotonic() < give_up_at:
        began = time.monotonic()
        assert w3.eth.chain_id == 31338
        fastest = min(fastest, time.monotonic() - began)
    print(f"{1000 * fastest:.1f} ms for the fastest answer over HTTP")
    assert fastest <= 0.03
