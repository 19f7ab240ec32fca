"""A wire that lies: requests and answers get lost, receipts lag, logs go missing or come twice. Seeded."""

from __future__ import annotations

import json
import random
import threading
import urllib.request
from collections import Counter
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any


class Liar:
    """A proxy before a node. With `honest` it only passes on. `told` counts each kind of mischief."""

    def __init__(self, node_url: str, seed: int) -> None:
        self.node_url, self.dice, self.honest = node_url, random.Random(seed), True
        self.told: Counter[str] = Counter()
        self._lock = threading.Lock()
        liar = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm, wbufsize = True, 1 << 16  # else each answer waits 40 ms for an acknowledgement

            def log_message(self, *_: Any) -> None:
                pass

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                answer = liar.pass_on(body)
                if answer is None:
                    self.close_connection = True
                    self.connection.close()
                    return
                self.send_response(200)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def handle(self) -> None:
                with suppress(OSError, ValueError):  # the connection was cut, by us
                    super().handle()

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def __enter__(self) -> Liar:
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.05})
        self.thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()

    def _falls(self, name: str, per_mille: int) -> bool:
        with self._lock:
            falls = not self.honest and self.dice.randrange(1000) < per_mille
            self.told[name] += falls
            return falls

    def pass_on(self, body: bytes) -> bytes | None:
        """The node's answer, changed perhaps; None cuts the connection, as after a time-out."""
        method = json.loads(body)["method"]
        sends = method == "eth_sendRawTransaction"
        if self._falls("request lost", 60 if sends else 4):
            return None
        request = urllib.request.Request(self.node_url, body, {"content-type": "application/json"})
        with urllib.request.urlopen(request, timeout=120) as response:
            answer: bytes = response.read()
        # No storm, however short, goes by without one: the first transaction's is lost for certain.
        if self._falls("answer lost", 4 if not sends else 60 if self.told["answer lost"] else 1000):
            return None
        if method == "eth_getTransactionReceipt" and self._falls("receipt lags", 40):
            return self._instead(body, result=None)
        if method == "eth_call" and self._falls("state gone", 15):
            return self._instead(body, result="0x")  # anvil says this when it has lost a state
        if method in ("eth_call", "eth_estimateGas", "eth_getTransactionCount") and self._falls("block gone", 15):
            return self._instead(body, error={"code": -32602, "message": "BlockOutOfRangeError: block height is 1"})
        if method == "eth_getBlockReceipts":
            return self._with_other_logs(answer)
        return answer

    @staticmethod
    def _instead(body: bytes, **told: Any) -> bytes:
        return json.dumps({"jsonrpc": "2.0", "id": json.loads(body)["id"], **told}).encode()

    def _with_other_logs(self, answer: bytes) -> bytes:
        told = json.loads(answer)
        with_logs = [receipt for receipt in told.get("result") or [] if receipt["logs"]]
        if with_logs and self._falls("log missing", 80):
            del with_logs[-1]["logs"][-1]
        elif with_logs and self._falls("log twice", 80):
            with_logs[0]["logs"].append(with_logs[0]["logs"][0])
        return json.dumps(told).encode()
