"""The agent's way to the market's API: capped API key, idempotent posts, patient with a busy server."""

import hashlib
from collections.abc import Callable, Mapping
from typing import Any

import httpx

from marketplace.agent import clock
from marketplace.agent.errors import ServerRefused, ServerUnreachable
from pricing.transcript import canonical_json

KEY_PREFIX = "gx_"
ATTEMPTS = 4
WAIT_SECONDS_MAX = 30.0
# A twin in flight, too many requests, not ready: the same key may be sent again. All else is an answer.
PATIENT_STATUSES = (409, 429, 503)


class ApiClient:
    """A connection to one market with one API key. Use it as a context manager."""

    def __init__(
        self,
        server: str,
        *,
        api_key: str,
        timeout_seconds: float = 20,
        sleep_seconds: Callable[[float], None] = clock.sleep_seconds,
    ) -> None:
        if not api_key.startswith(KEY_PREFIX) or not api_key.isascii() or not api_key.isprintable():
            raise ServerRefused("An API key begins with gx_.", problem_code="api_key_malformed")
        self._sleep_seconds = sleep_seconds
        self._client = httpx.Client(
            base_url=server,
            headers={"Authorization": f"Bearer {api_key}", "Accept": "application/json"},
            timeout=timeout_seconds,
        )

    def __enter__(self) -> "ApiClient":
        return self

    def __exit__(self, *failure: object) -> None:
        self._client.close()

    def post_bid(self, bid: Mapping[str, Any], *, idempotency_key: str | None = None) -> dict[str, Any]:
        """Submit one bid; what the market answers.

        Without a key of its own the bid's canonical bytes make one, so a file sent twice is one bid. Raises
        ServerRefused, with the problem's code and facts, or ServerUnreachable.
        """
        return self.post("/api/v1/bids", bid, idempotency_key=idempotency_key or key_of(bid))

    def post(self, path: str, body: Mapping[str, Any], *, idempotency_key: str) -> dict[str, Any]:
        """Post until there is an answer, at most four times, always under the same key."""
        failure: ServerRefused | ServerUnreachable | None = None
        for attempt in range(ATTEMPTS):
            if attempt:
                self._sleep_seconds(min(WAIT_SECONDS_MAX, self._wait_seconds(failure, attempt)))
            try:
                answer = self._client.post(path, json=dict(body), headers={"Idempotency-Key": idempotency_key})
            except httpx.TransportError as error:
                failure = ServerUnreachable("The market does not answer.", cause=type(error).__name__)
                continue
            if answer.is_success:
                return _object_of(answer)
            failure = _refusal_of(answer)
            if not _is_patient(answer):
                break
        assert failure is not None
        raise failure

    def _wait_seconds(self, failure: ServerRefused | ServerUnreachable | None, attempt: int) -> float:
        told = failure.facts.get("retry_after_seconds") if failure else None
        return float(told) if isinstance(told, (int, float)) else 0.5 * 2**attempt


def key_of(body: Mapping[str, Any]) -> str:
    """The idempotency key of a body: the same body, the same key."""
    return "bid-" + hashlib.sha256(canonical_json(body)).hexdigest()[:40]


def _is_patient(answer: httpx.Response) -> bool:
    # Only a 409 with Retry-After is a twin in flight; demand_first and window_closed are answers.
    return answer.status_code in PATIENT_STATUSES and (answer.status_code != 409 or "Retry-After" in answer.headers)


def _object_of(answer: httpx.Response) -> dict[str, Any]:
    try:
        found = answer.json()
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise ServerRefused(
            "The market did not answer with an object.", problem_code="not_json", status=answer.status_code
        )
    return found


def _refusal_of(answer: httpx.Response) -> ServerRefused:
    try:
        problem = answer.json()
    except ValueError:
        problem = {}
    if not isinstance(problem, dict):
        problem = {}
    told = {name: fact for name, fact in problem.items() if name not in ("type", "title", "status", "code")}
    facts: dict[str, Any] = {
        "problem": told,
        "status": answer.status_code,
        "problem_code": str(problem.get("code", "")),
    }
    if answer.headers.get("Retry-After", "").isdigit():
        facts["retry_after_seconds"] = int(answer.headers["Retry-After"])
    return ServerRefused(str(problem.get("title") or f"The market answered {answer.status_code}."), **facts)
