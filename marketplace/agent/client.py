"""The agent's way to the market's API: capped API key, idempotent posts, patient with a busy server."""

import hashlib
import os
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Self
from urllib.parse import urlsplit

import httpx

from marketplace.agent import clock
from marketplace.agent.errors import ServerRefused, ServerUnreachable
from marketplace.agent.wire import is_loopback
from pricing.transcript import canonical_json

KEY_PREFIX = "gx_"
ATTEMPTS = 4
WAIT_SECONDS_MAX = 30.0
PAGE_ROWS = "200"  # the most that the market gives at once
# A twin in flight, too many requests, not ready: the same key may be sent again. All else is an answer.
PATIENT_STATUSES = (409, 429, 503)


def refuse_plain_http(url: str) -> None:
    """Keys, tokens and proofs go in clear to this machine alone, unless `GROVE_PLAIN_HTTP=1` says otherwise.

    Raises ServerRefused for http:// to any other host, and for an address that cannot be read.
    """
    try:
        is_here = is_loopback(urlsplit(url).hostname or "")
    except ValueError:
        is_here = False
    if not url.startswith("https://") and not is_here and os.environ.get("GROVE_PLAIN_HTTP") != "1":
        raise ServerRefused(
            "Plain HTTP shows the key to everybody on the way: use https://, or GROVE_PLAIN_HTTP=1 where it is safe.",
            problem_code="plain_http", server=url,
        )  # fmt: skip


class SignedClient:
    """A connection to one market for statements that are signed by the machine itself. Use it as a context manager."""

    def __init__(
        self,
        server: str,
        *,
        headers: Mapping[str, str] | None = None,
        timeout_seconds: float = 20,
        attempts: int = ATTEMPTS,
        sleep_seconds: Callable[[float], None] = clock.sleep_seconds,
    ) -> None:
        if not server.startswith(("http://", "https://")):
            raise ServerRefused("A server is an address that begins with https:// or http://.", server=server)
        refuse_plain_http(server)
        self._sleep_seconds, self._attempts = sleep_seconds, attempts
        try:
            self._client = httpx.Client(
                base_url=server, headers={"Accept": "application/json", **(headers or {})}, timeout=timeout_seconds
            )
        except httpx.InvalidURL as error:
            raise ServerRefused("That is no address of a server.", server=server) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *failure: object) -> None:
        self._client.close()

    def post(self, path: str, body: Mapping[str, Any], *, idempotency_key: str = "") -> dict[str, Any]:
        """Post until there is an answer, at most four times, always under the same key: its own, or the body's."""
        headers = {"Idempotency-Key": idempotency_key or key_of(body)}
        return self._answered(lambda: self._client.post(path, json=dict(body), headers=headers))

    def get(self, path: str, **query: str) -> dict[str, Any]:
        """Read one thing. Raises as `post` does."""
        return self._answered(lambda: self._client.get(path, params=query))

    def rows(self, path: str, **query: str) -> Iterator[dict[str, Any]]:
        """Every row of a list, page by page."""
        for page in self.pages(path, **query):
            yield from page["data"]

    def pages(self, path: str, **query: str) -> Iterator[dict[str, Any]]:
        """Every page of a list, with what it says around its rows."""
        cursor: dict[str, str] = {}
        while True:
            page = self.get(path, limit=PAGE_ROWS, **query, **cursor)
            yield page
            if not page.get("next_cursor"):
                return
            cursor = {"cursor": page["next_cursor"]}

    def _answered(self, ask: Callable[[], httpx.Response]) -> dict[str, Any]:
        failure: ServerRefused | ServerUnreachable | None = None
        for attempt in range(self._attempts):
            if attempt:
                self._sleep_seconds(min(WAIT_SECONDS_MAX, self._wait_seconds(failure, attempt)))
            try:
                answer = ask()
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


class ApiClient(SignedClient):
    """A connection with one API key: what a program does for its party."""

    def __init__(self, server: str, *, api_key: str, **options: Any) -> None:
        if not api_key.startswith(KEY_PREFIX) or not api_key.isascii() or not api_key.isprintable():
            raise ServerRefused("An API key begins with gx_.", problem_code="api_key_malformed")
        super().__init__(server, headers={"Authorization": f"Bearer {api_key}"}, **options)

    def post_bid(self, bid: Mapping[str, Any], *, idempotency_key: str | None = None) -> dict[str, Any]:
        """Submit one bid; what the market answers.

        Without a key of its own the bid's canonical bytes make one, so a file sent twice is one bid. Raises
        ServerRefused, with the problem's code and facts, or ServerUnreachable.
        """
        return self.post("/api/v1/bids", bid, idempotency_key=idempotency_key or key_of(bid))

    def rehearse_bid(self, bid: Mapping[str, Any]) -> dict[str, Any]:
        """What the bid would be: the same checks and refusals as `post_bid`, and nothing is written."""
        return self.post("/api/v1/bids?dry_run=true", bid, idempotency_key=key_of(bid))


def key_of(body: Mapping[str, Any]) -> str:
    """The idempotency key of a body: the same body, the same key."""
    return "act-" + hashlib.sha256(canonical_json(body)).hexdigest()[:40]


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
