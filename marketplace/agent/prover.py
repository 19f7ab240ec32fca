"""The proving side of a session: in this process, or a machine reached over HTTP.

The HTTP form is three small JSON messages (start, block, open) under a one-time token. The server offers named presets
only, so that no caller can ask for more work than a preset holds, and serves one session at a time.
"""

import hmac
import json
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock
from typing import Any, Protocol

import httpx
import numpy as np

from marketplace.agent.backends import backend_for
from marketplace.agent.errors import OutOfTurn, ServerRefused, ServerUnreachable
from pricing.errors import MalformedProof, ProofRefused
from pricing.proof import PRESETS, Commitment, Int64s, Opening, Preset, Prover
from pricing.transcript import canonical_json, opening_from_json, opening_to_json

BODY_BYTES_MAX = 1 << 20


class ProverSession(Protocol):
    """Whoever proves."""

    backend: str

    def start(self, preset: Preset, seed: bytes) -> None:
        """Take a challenge; whatever was proved before is dropped."""

    def commit_block(self, nonce: bytes) -> Commitment:
        """Compute the next block."""

    def open_rows(self, block: int, rows: Int64s) -> Opening:
        """Open rows of a committed block, with advice."""


class LocalProver:
    """Proves with this process's own processors."""

    def __init__(self, backend: str = "float32") -> None:
        # An unknown name or a missing library is refused now, not in the middle of a session; "auto" gets its name.
        self.backend = backend_for(backend).name
        self._prover: Prover | None = None

    def start(self, preset: Preset, seed: bytes) -> None:
        self._prover = Prover(preset=preset, seed=seed, backend=backend_for(self.backend))

    def commit_block(self, nonce: bytes) -> Commitment:
        return self._started.commit_block(nonce)

    def open_rows(self, block: int, rows: Int64s) -> Opening:
        return self._started.open_rows(block, rows)

    @property
    def _started(self) -> Prover:
        if self._prover is None:
            raise OutOfTurn("No challenge was started.")
        return self._prover


class HttpProver:
    """A prover behind a URL. What it answers is material to check, so a wrong shape is MalformedProof."""

    def __init__(self, url: str, *, token: str, timeout_seconds: float = 120) -> None:
        if not token:
            raise ServerRefused("A served prover asks for a token.", problem_code="token_missing")
        self.backend = "unknown"
        self._client = httpx.Client(
            base_url=url, headers={"Authorization": f"Bearer {token}"}, timeout=timeout_seconds, trust_env=False
        )

    def __enter__(self) -> "HttpProver":
        return self

    def __exit__(self, *failure: object) -> None:
        self._client.close()

    def start(self, preset: Preset, seed: bytes) -> None:
        self.backend = str(self._post("start", {"preset": preset.name, "seed": seed.hex()}).get("backend"))[:32]

    def commit_block(self, nonce: bytes) -> Commitment:
        answer = self._post("block", {"nonce": nonce.hex()})
        try:
            return Commitment(*(bytes.fromhex(answer[name]) for name in ("nonce", "rows_root", "columns_root")))
        except (KeyError, ValueError, TypeError) as error:
            raise MalformedProof("That is no commitment.") from error

    def open_rows(self, block: int, rows: Int64s) -> Opening:
        return opening_from_json(self._post("open", {"block": block, "rows": rows.tolist()}))

    def _post(self, act: str, body: Mapping[str, Any]) -> dict[str, Any]:
        try:
            answer = self._client.post(f"/{act}", json=body)
            found = answer.json()
        except httpx.TransportError as error:
            raise ServerUnreachable("The prover does not answer.", cause=type(error).__name__) from error
        except ValueError as error:
            raise MalformedProof("The prover did not answer with JSON.", act=act) from error
        if not isinstance(found, dict):
            raise MalformedProof("The prover did not answer with an object.", act=act)
        if answer.status_code != 200:
            raise ServerRefused(
                str(found.get("title")), problem_code=str(found.get("code", "")), status=answer.status_code
            )
        return found


class Watched:
    """Another prover, and somebody who is told how many blocks it has done."""

    def __init__(self, prover: ProverSession, told: Callable[[int], None]) -> None:
        self._prover, self._told, self._blocks = prover, told, 0

    @property
    def backend(self) -> str:
        return self._prover.backend

    def start(self, preset: Preset, seed: bytes) -> None:
        self._blocks = 0
        self._prover.start(preset, seed)

    def commit_block(self, nonce: bytes) -> Commitment:
        commitment = self._prover.commit_block(nonce)
        self._blocks += 1
        self._told(self._blocks)
        return commitment

    def open_rows(self, block: int, rows: Int64s) -> Opening:
        return self._prover.open_rows(block, rows)


class ProverServer(ThreadingHTTPServer):
    """Serves one prover to whoever holds the token. `serve_forever()` runs it, `shutdown()` ends it."""

    daemon_threads = True

    def __init__(
        self, address: tuple[str, int], *, prover: ProverSession, token: str, presets: Mapping[str, Preset] = PRESETS
    ) -> None:
        super().__init__(address, _Handler)
        self.prover = prover
        self.token = token
        self.presets = presets
        self.turn = Lock()

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://{self.server_address[0]!s}:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    server: ProverServer

    def do_POST(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        if not 0 < length <= BODY_BYTES_MAX:
            return self._answer(413, {"code": "too_large", "title": "The message is empty or too large."})
        data = self.rfile.read(length)  # before any refusal: an answer over unread bytes may be lost to a reset
        given, wanted = self.headers.get("Authorization", ""), f"Bearer {self.server.token}"
        if not hmac.compare_digest(given.encode(), wanted.encode()):
            return self._answer(401, {"code": "token_wrong", "title": "Another token is needed."})
        try:
            body = json.loads(data)
            with self.server.turn:
                answer = self._act(body)
        except (ProofRefused, OutOfTurn) as error:
            return self._answer(409, {"code": error.code, "title": str(error)})
        except (ValueError, KeyError, TypeError, OverflowError):
            return self._answer(400, {"code": "malformed", "title": "The message cannot be read."})
        self._answer(200, answer)

    def _act(self, body: Mapping[str, Any]) -> dict[str, Any]:
        prover = self.server.prover
        if self.path == "/start":
            prover.start(self.server.presets[body["preset"]], bytes.fromhex(body["seed"]))
            return {"backend": prover.backend}
        if self.path == "/block":
            made = prover.commit_block(bytes.fromhex(body["nonce"]))
            return {
                "nonce": made.nonce.hex(), "rows_root": made.rows_root.hex(), "columns_root": made.columns_root.hex(),
            }  # fmt: skip
        if self.path == "/open":
            return opening_to_json(prover.open_rows(int(body["block"]), np.array(body["rows"], np.int64)))
        raise OutOfTurn("A prover starts, computes blocks and opens rows; nothing else.", path=self.path)

    def _answer(self, status: int, body: Mapping[str, Any]) -> None:
        data = canonical_json(body)
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *arguments: object) -> None:
        """Silent: the caller prints what matters."""
