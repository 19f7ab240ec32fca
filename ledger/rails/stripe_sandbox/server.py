"""The sandbox over HTTP: Stripe's addresses under /v1, the payment page under /pay, its controls under /_sandbox."""

from __future__ import annotations

import hashlib
import html
import json
import re
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, parse_qsl, quote, urlsplit

from ledger.rails.stripe_sandbox import connect, payments
from ledger.rails.stripe_sandbox.pages import account_page, closed_page, pay_page
from ledger.rails.stripe_sandbox.refusals import Refused, missing, whole
from ledger.rails.stripe_sandbox.store import API_VERSION, BEHAVIOURS, Store
from ledger.rails.stripe_sandbox.webhooks import signature_header

BODY_BYTES_MAX = 256 * 1024
PAGE_MAX = 100
Object = dict[str, Any]
Act = Callable[[Store, Object, str, str], Object]  # store, parameters, id in the path, address of the pages

# What can be made and changed: method is POST, the path may hold one id.
ACTS: list[tuple[re.Pattern[str], Act]] = [
    (re.compile(pattern), act)
    for pattern, act in (
        ("/v1/customers", lambda s, p, i, u: payments.make_customer(s, p)),
        ("/v1/checkout/sessions", lambda s, p, i, u: payments.make_session(s, p, u)),
        ("/v1/checkout/sessions/(cs_test_[0-9a-f]+)/expire", lambda s, p, i, u: payments.expire_session(s, i)),
        ("/v1/payment_intents", lambda s, p, i, u: payments.make_intent(s, p)),
        ("/v1/payment_intents/(pi_[0-9a-f]+)/confirm", lambda s, p, i, u: payments.confirm_intent(s, i, p)),
        ("/v1/payment_intents/(pi_[0-9a-f]+)/cancel", lambda s, p, i, u: payments.cancel_intent(s, i)),
        ("/v1/refunds", lambda s, p, i, u: payments.make_refund(s, p)),
        ("/v1/disputes/(du_[0-9a-f]+)", lambda s, p, i, u: payments.answer_dispute(s, i, p)),
        ("/v1/disputes/(du_[0-9a-f]+)/close", lambda s, p, i, u: payments.end_dispute(s, i, won=False)),
        ("/v1/accounts", lambda s, p, i, u: connect.make_account(s, p)),
        ("/v1/account_links", lambda s, p, i, u: connect.make_account_link(s, p, u)),
        ("/v1/transfers", lambda s, p, i, u: connect.make_transfer(s, p)),
        ("/v1/transfers/(tr_[0-9a-f]+)/reversals", lambda s, p, i, u: connect.reverse_transfer(s, i, p)),
        ("/v1/payouts", lambda s, p, i, u: connect.make_payout(s, p)),
        ("/v1/topups", lambda s, p, i, u: connect.make_topup(s, p)),
    )
]
# What a test or a person at the console can do to it beside Stripe's own addresses.
CONTROLS: list[tuple[re.Pattern[str], Act]] = [
    (re.compile(pattern), act)
    for pattern, act in (
        ("/_sandbox/behaviour", lambda s, p, i, u: behave(s, p)),
        ("/_sandbox/disputes", lambda s, p, i, u: payments.open_dispute(s, p["charge"], whole(p, "amount"))),
        ("/_sandbox/accounts/(acct_[0-9a-f]+)/enable", lambda s, p, i, u: connect.enable_account(s, i)),
        ("/_sandbox/accounts/(acct_[0-9a-f]+)/disable", lambda s, p, i, u: connect.disable_account(s, i, p)),
        ("/_sandbox/refunds/(re_[0-9a-f]+)/arrive", lambda s, p, i, u: payments.end_refund(s, i, succeeds=True)),
        ("/_sandbox/refunds/(re_[0-9a-f]+)/fail", lambda s, p, i, u: payments.end_refund(s, i, succeeds=False)),
    )
]
KINDS = {  # the name of a list in the address: the kind of its objects, and by what it can be filtered
    "customers": ("customer", ("email",)),
    "checkout/sessions": ("checkout.session", ("payment_intent", "customer", "status")),
    "payment_intents": ("payment_intent", ("customer",)),
    "charges": ("charge", ("payment_intent", "customer")),
    "refunds": ("refund", ("payment_intent", "charge")),
    "disputes": ("dispute", ("payment_intent", "charge")),
    "accounts": ("account", ()),
    "transfers": ("transfer", ("destination", "transfer_group")),
    "reversals": ("transfer_reversal", ("transfer",)),  # of a transfer only
    "payouts": ("payout", ("status",)),
    "topups": ("topup", ("status",)),
    "balance_transactions": ("balance_transaction", ("type", "source", "payout")),
    "events": ("event", ("type",)),
}
EXPANDABLE = {
    "latest_charge": "charge", "charge": "charge", "balance_transaction": "balance_transaction",
    "failure_balance_transaction": "balance_transaction", "payment_intent": "payment_intent", "customer": "customer",
}  # fmt: skip
SOURCES = {"ch": "charge", "re": "refund", "du": "dispute", "tr": "transfer", "trr": "transfer_reversal",
           "po": "payout", "tu": "topup"}  # fmt: skip
REVERSALS = re.compile("transfers/(tr_[0-9a-f]+)/reversals")


def behave(store: Store, params: Object) -> Object:
    """Tell the sandbox what to do wrong; names that are left out are well-behaved again."""
    unknown = params.keys() - BEHAVIOURS.keys()
    if unknown:
        raise Refused(400, f"Unknown behaviour: {', '.join(sorted(unknown))}.")
    for name in BEHAVIOURS:
        store.behave(name, whole(params, name, default=0, least=0))
    return {"object": "behaviour"} | {name: store.behaviour(name) for name in BEHAVIOURS}


def decode_form(body: str) -> Object:
    """Return `a[b][0][c]=1` as nested dicts and lists, as Stripe's clients write them."""
    root: Object = {}
    for key, value in parse_qsl(body, keep_blank_values=True):
        names = re.findall(r"[^\[\]]+", key)
        here: Object = root
        for name in names[:-1]:
            there = here.setdefault(name, {})
            if not isinstance(there, dict):
                raise Refused(400, f"Invalid parameter: {key}", param=key)
            here = there
        here[names[-1] if names else key] = value
    return {name: _listed(value) for name, value in root.items()}


def _listed(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    values = {name: _listed(each) for name, each in value.items()}
    return list(values.values()) if values and all(name.isdigit() for name in values) else values


class Handler(BaseHTTPRequestHandler):
    """One connection. `store`, `webhook_secret` and `pages` are set on the class made for one server."""

    protocol_version = "HTTP/1.1"
    server_version = "GroveStripeSandbox"
    sys_version = ""
    timeout = 60
    disable_nagle_algorithm = True  # else the body waits 40 ms for the client to acknowledge the header
    wbufsize = -1
    store: Store
    webhook_secret: str
    pages: str

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing: bodies and keys have no place in a log, and the books log what they ask."""

    def do_GET(self) -> None:
        """Answer a read."""
        self._answer("GET")

    def do_POST(self) -> None:
        """Answer a change."""
        self._answer("POST")

    def _answer(self, method: str) -> None:
        path = urlsplit(self.path)
        try:
            body = self._body()
            if path.path.startswith(("/pay/", "/connect/")):
                self._serve_page(method, path.path, dict(parse_qsl(path.query)), dict(parse_qsl(body)))
                return
            status, text = self._api(method, path.path, path.query, body)
        except Refused as refused:
            status, text = refused.status, json.dumps(refused.body)
        self._send(status, text.encode(), "application/json")

    def _body(self) -> str:
        length = int(self.headers.get("Content-Length") or 0)
        if not 0 <= length <= BODY_BYTES_MAX:
            self.close_connection = True
            raise Refused(413, "The body is too large.")
        return self.rfile.read(length).decode()

    def _send(self, status: int, body: bytes, kind: str, **headers: str) -> None:
        self.send_response(status)
        for name, value in {
            "Content-Type": kind, "Content-Length": str(len(body)), "Stripe-Version": self._version(),
            "Cache-Control": "no-store", "X-Content-Type-Options": "nosniff",
        }.items():  # fmt: skip
            self.send_header(name, value)
        if status >= 500:
            self.send_header("Stripe-Should-Retry", "false")  # the same key would only get the same answer
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def _version(self) -> str:
        return self.headers.get("Stripe-Version") or API_VERSION

    # -- the API --------------------------------------------------------------------------------------------------
    def _api(self, method: str, path: str, query: str, body: str) -> tuple[int, str]:
        if path == "/_sandbox/health":
            return 200, json.dumps({"object": "health", "sandbox": True})
        if not self.headers.get("Authorization", "").startswith("Bearer sk_test_"):
            raise Refused(401, "Invalid API Key provided. The sandbox takes keys that begin with sk_test_.")
        if not re.fullmatch(r"20\d\d-\d\d-\d\d(\.[a-z]+)?", self._version()):
            raise Refused(400, f"Invalid Stripe API version: {self._version()}")
        if method == "GET":
            with self.store.commit():
                return 200, json.dumps(self._read(path, query))
        return self._change(path, body)

    def _read(self, path: str, query: str) -> Object:
        if path == "/_sandbox/deliveries":
            return {"object": "list", "data": [self._signed(event) for event in self.store.held()]}
        if path == "/v1/balance":
            return payments.balance(self.store)
        params = parse_qs(query)
        expand = [value for name, values in params.items() if name.startswith("expand[") for value in values]
        name, _, id = path.removeprefix("/v1/").rpartition("/")
        if name in KINDS:
            found = self.store.get(KINDS[name][0], id)
            for wanted in expand:
                _expand(self.store, found, wanted.split("."))
            return found
        listed = self._list(path.removeprefix("/v1/"), path, {name: values[0] for name, values in params.items()})
        for wanted in expand:  # of a list: data.source and the like
            for found in listed["data"]:
                _expand(self.store, found, wanted.removeprefix("data.").split("."))
        return listed

    def _list(self, name: str, path: str, params: Object) -> Object:
        of_transfer = REVERSALS.fullmatch(name)
        if of_transfer:
            params, name = params | {"transfer": of_transfer[1]}, "reversals"
        if name not in KINDS or (name == "reversals") != bool(of_transfer):
            raise missing("address", path)
        kind, filters = KINDS[name]
        data, has_more = self.store.page(
            kind, {key: params[key] for key in filters if key in params},
            limit=min(whole(params, "limit", default=10), PAGE_MAX), after=params.get("starting_after", ""),
            before=params.get("ending_before", ""), since=whole(params, "created[gte]", default=0, least=0),
        )  # fmt: skip
        return {"object": "list", "url": path, "has_more": has_more, "data": data}

    def _signed(self, event: Object) -> Object:
        payload = json.dumps(event)
        return {"payload": payload, "signature": signature_header(payload, self.webhook_secret, self.store.now())}

    def _change(self, path: str, body: str) -> tuple[int, str]:
        key, fingerprint = self.headers.get("Idempotency-Key", ""), _fingerprint(path, body)
        with self.store.commit():
            known = self.store.answer_to(key) if key else None
            if known is not None:
                if known[0] != fingerprint:
                    raise Refused(
                        400, "Keys for idempotent requests can only be used with the same parameters they were first "
                        "used with.", kind="idempotency_error",
                    )  # fmt: skip
                return known[1], known[2]
            status, answer = self._do(path, decode_form(body))
            if key:
                self.store.keep_answer(key, fingerprint, status, answer)
            return status, answer

    def _do(self, path: str, params: Object) -> tuple[int, str]:
        """Make a change, or misbehave as told. A refused card is kept as a fact, other refusals leave nothing."""
        control = path.startswith("/_sandbox/")
        if not control and self.store.use_up("fail_before"):
            return 500, _broken("and nothing was done")
        for pattern, act in CONTROLS if control else ACTS:
            if found := pattern.fullmatch(path):
                try:
                    made = act(self.store, params, found[1] if found.groups() else "", self.pages)
                except Refused as refused:
                    if refused.status != 402:
                        raise
                    return refused.status, json.dumps(refused.body)
                if not control and self.store.use_up("fail_after"):
                    return 500, _broken("after it was done")
                return 200, json.dumps(made)
        raise missing("address", path)

    # -- the pages ------------------------------------------------------------------------------------------------
    def _serve_page(self, method: str, path: str, query: Object, form: Object) -> None:
        kind, _, id = path[1:].partition("/")
        if kind == "connect":
            self._serve_account(method, id, query, form)
            return
        with self.store.commit():
            try:
                session = self.store.get("checkout.session", id)
            except Refused:
                self._page(404, closed_page("There is no such payment."))
                return
            problem = ""
            if method == "POST" and session["status"] == "open":
                if "leave" in form:
                    self._redirect(session["cancel_url"] or session["success_url"])
                    return
                session, problem = self._pay(session, re.sub(r"\D", "", form.get("number", "")))
        if method == "POST" and session["status"] == "complete":
            if self._fails_after():
                self._page(500, closed_page("Something went wrong. Your card may have been charged."))
            else:
                self._redirect(session["success_url"])
        elif session["status"] == "open":
            self._page(402 if problem else 200, pay_page(session, problem))
        else:
            self._page(200, closed_page(f"This payment is {session['status']}."))

    def _pay(self, session: Object, number: str) -> tuple[Object, str]:
        try:
            session = payments.pay_session(self.store, session["id"], number)
        except Refused as refused:
            return session, str(refused)
        return session, "" if session["status"] == "complete" else "The card was declined. Nothing was charged."

    def _fails_after(self) -> bool:
        with self.store.commit():
            return self.store.use_up("fail_after")

    def _serve_account(self, method: str, id: str, query: Object, form: Object) -> None:
        with self.store.commit():
            try:
                account = self.store.get("account", id)
            except Refused:
                self._page(404, closed_page("There is no such account."))
                return
            if method == "POST" and "leave" not in form:
                connect.enable_account(self.store, account["id"])
        if method == "POST":
            self._redirect(query.get("return_url", "/"))
        else:
            self._page(200, account_page(id, quote(query.get("return_url", "/"), safe="")))

    def _page(self, status: int, text: str) -> None:
        policy = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; frame-ancestors 'none'"
        self._send(status, text.encode(), "text/html; charset=utf-8", Content_Security_Policy=policy)

    def _redirect(self, url: str) -> None:
        body = f'<a href="{html.escape(url)}">Back</a>'.encode()
        self._send(303, body, "text/html; charset=utf-8", Location=url)


def _expand(store: Store, found: Object, names: list[str]) -> None:
    """Put the object where its id stands, as deep as `names` go."""
    value = found.get(names[0])
    kind = EXPANDABLE.get(names[0])
    if isinstance(value, str) and names[0] == "source":  # of a balance line: its kind is in its id
        kind = SOURCES.get(value.partition("_")[0])
    if isinstance(value, str) and kind:
        found[names[0]] = value = store.get(kind, value)
    if isinstance(value, dict) and names[1:]:
        _expand(store, value, names[1:])


def _fingerprint(path: str, body: str) -> str:
    return hashlib.sha256(f"{path}\n{body}".encode()).hexdigest()


def _broken(how: str) -> str:
    error = {"type": "api_error", "message": f"The sandbox was told to fail {how}."}
    return json.dumps({"error": error})


def make_server(store: Store, *, port: int, webhook_secret: str) -> ThreadingHTTPServer:
    """Return a server on loopback that is not running yet; port 0 takes a free one."""
    facts = {"store": store, "webhook_secret": webhook_secret}
    bound = type("BoundHandler", (Handler,), facts)
    server = ThreadingHTTPServer(("127.0.0.1", port), bound)
    server.daemon_threads = True
    bound.pages = f"http://127.0.0.1:{server.server_address[1]}"  # type: ignore[attr-defined]
    return server
