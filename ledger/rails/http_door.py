"""The embedded chain over HTTP for other programs: JSON-RPC on this machine only, and bounded in every direction.

Nothing of ours needs it. It shares the store with all other processes, so it may be started, killed and started again.
"""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from ledger.rails.embedded import EmbeddedChain, clock_seconds
from ledger.rails.jsonrpc import INVALID, JsonRpc, RpcRefusal

HOST = "127.0.0.1"
BODY_BYTES_MAX = 1_000_000
BATCH_MAX = 50
AT_ONCE_MAX = 8
IDLE_SECONDS_MAX = 30
CALL_GAS_MAX = 50_000_000  # about a second; in this process a call may use 20 times as much
LOG_BLOCKS_MAX = 10_000
DRIFT_SECONDS_MAX = 2  # each block is a second later than its parent, so many blocks run ahead of the clock
PARSE_ERROR, INVALID_REQUEST, INTERNAL = -32700, -32600, -32603
NAMES = ("127.0.0.1", "localhost")


class Door(JsonRpc):
    """`JsonRpc` for strangers: what costs without limit in this process is refused here."""

    def answer(self, method: str, params: Any) -> Any:
        """Answer one request. Raises `RpcRefusal`."""
        if not isinstance(method, str) or not isinstance(params, list):
            raise RpcRefusal(INVALID_REQUEST, "method must be a string and params a list")
        if method in ("eth_call", "eth_estimateGas") and params and isinstance(params[0], dict):
            asked = int(str(params[0].get("gas") or hex(CALL_GAS_MAX)), 16)
            params = [{**params[0], "gas": hex(min(asked, CALL_GAS_MAX))}, *params[1:]]
        if method == "eth_sendRawTransaction":
            self._refuse_drift()
        if method == "eth_getLogs" and params and isinstance(params[0], dict):
            self._refuse_long_range(params[0])
        return super().answer(method, params)

    def _refuse_drift(self) -> None:
        ahead = self.chain.head().timestamp + 1 - clock_seconds()
        if ahead > DRIFT_SECONDS_MAX:
            raise RpcRefusal(INVALID, f"the chain is {ahead} s ahead of the clock: send again a little later")

    def _refuse_long_range(self, wanted: dict[str, Any]) -> None:
        head = self.chain.head().block_number
        ends = [wanted.get("fromBlock") or "latest", wanted.get("toBlock") or "latest"]
        first, last = (int(end, 16) if str(end).startswith("0x") else 0 if end == "earliest" else head for end in ends)
        if min(last, head) - first > LOG_BLOCKS_MAX:
            raise RpcRefusal(INVALID, f"ask for at most {LOG_BLOCKS_MAX} blocks of logs")


def serve(chain: EmbeddedChain, port: int) -> ThreadingHTTPServer:
    """A server on loopback, not running yet: call `serve_forever`. Port 0 takes a free one."""
    door, places = Door(chain), threading.BoundedSemaphore(AT_ONCE_MAX)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        timeout = IDLE_SECONDS_MAX
        disable_nagle_algorithm, wbufsize = True, 1 << 16  # without both an answer waits 40 ms: 11 tx/s, not 77 to 164

        def log_message(self, *_: Any) -> None:
            """Requests are not logged."""

        def do_POST(self) -> None:
            if (self.headers.get("host") or "").rsplit(":", 1)[0] not in NAMES:
                return self._say(403, {"error": "ask for 127.0.0.1"})  # a page elsewhere that points its name here
            length = self.headers.get("content-length") or ""
            if not length.isdigit() or int(length) > BODY_BYTES_MAX:
                self.close_connection = True
                return self._say(413, {"error": f"send at most {BODY_BYTES_MAX} bytes, and say how many"})
            body = self.rfile.read(int(length))
            with places:
                return self._say(200, answer_body(door, body))

        def _say(self, status: int, told: Any) -> None:
            text = json.dumps(told).encode()
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

    server = ThreadingHTTPServer((HOST, port), Handler)
    server.daemon_threads = True
    return server


def answer_body(door: JsonRpc, body: bytes) -> Any:
    """The answer to one request or a batch of them, as JSON values."""
    try:
        asked = json.loads(body)
    except (ValueError, RecursionError):
        return _error(None, PARSE_ERROR, "this is no JSON")
    if isinstance(asked, list):
        if not 0 < len(asked) <= BATCH_MAX:
            return _error(None, INVALID_REQUEST, f"a batch holds 1 to {BATCH_MAX} requests")
        return [_answer(door, each) for each in asked]
    return _answer(door, asked)


def _answer(door: JsonRpc, asked: Any) -> dict[str, Any]:
    if not isinstance(asked, dict):
        return _error(None, INVALID_REQUEST, "a request is an object")
    number = asked.get("id")
    try:
        return {"jsonrpc": "2.0", "id": number, "result": door.answer(asked.get("method", ""), asked.get("params", []))}
    except RpcRefusal as refusal:
        return {"jsonrpc": "2.0", "id": number, "error": refusal.answer}
    except (TypeError, ValueError, KeyError, AttributeError, IndexError, OverflowError) as error:
        return _error(number, INVALID, f"these parameters do not fit: {type(error).__name__}")
    except Exception as error:  # one bad request must not end the door for the others
        return _error(number, INTERNAL, f"the chain failed: {type(error).__name__}")


def _error(number: Any, code: int, message: str) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": number, "error": {"code": code, "message": message}}
