"""What the OpenAPI schema says beyond the code: keys, frames of lists, refusals, and the guide at its top."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from drf_spectacular.extensions import OpenApiAuthenticationExtension
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, inline_serializer
from rest_framework import serializers

from marketplace.api.problems import MEDIA_TYPE
from marketplace.api.reference import markdown_table

GUIDE = """
Post demand, bid capacity, follow leases and money. Refusals are RFC 9457 problem documents.

**Keys.** `Authorization: Bearer gx_live_...`, or the session of the portal with its CSRF token. The party comes from
the key, never from the body. A key without the right to write is refused with `read_only_key`.

**One act, once.** Every POST needs an `Idempotency-Key` of your own. The same key and the same bytes give the reply
that stands, with `Idempotency-Replayed: true`; another body is `idempotency_mismatch`; while the twin runs, `in_flight`
with `Retry-After`. Keys are kept 7 days. A refusal writes nothing and is not remembered: put it right and use the key
again.

**Dry run.** `?dry_run=true` on a demand or a bid makes every check and writes no row.

**Numbers.** Money and prices are whole micro-USD as strings, because 64 bits pass what many JSON readers keep; on input
a string or an integer will do, a float is `number_format`. Times are UTC. Ids carry their kind: `dem_`, `bid_`, `awd_`,
`lea_`, `win_`, `cls_`, `adm_`, `sta_`, `lin_`, `nee_`, `sea_`, `ivt_`, `spc_`.

**Lists.** Oldest first by (created, id), so that new rows come after those you have; a statement is newest first.
`data` holds the rows, `limit` is up to 200, `cursor` comes from `next_cursor` (null: there is no more), and a `Link`
header leads to the next page.

**Sealed.** Before a window closes nobody can read, find or count another party's bid, the Foundation included. Missing
objects and other people's give the same 404.

**Rates.** `RateLimit` and `RateLimit-Policy` stand on every answer, `Retry-After` on 429. `X-Request-ID` stands on
every answer; quote it when you ask us.

## Refusals

"""
WINDOW = OpenApiParameter(
    "window", OpenApiTypes.STR, description="only of this window", pattern="^win_[0-9a-f]{32}$"
)
LIMIT = OpenApiParameter("limit", OpenApiTypes.INT, description="rows of a page, 1 to 200; 50 when left out")
CURSOR = OpenApiParameter("cursor", OpenApiTypes.STR, description="`next_cursor` of the page before")
DRY_RUN = OpenApiParameter("dry_run", OpenApiTypes.BOOL, description="make every check, write nothing")
IDEMPOTENCY_KEY = OpenApiParameter(
    "Idempotency-Key", OpenApiTypes.STR, OpenApiParameter.HEADER, required=True,
    description="your own name for this act, 1 to 120 printable ASCII characters", pattern="^[!-~]{1,120}$",
)  # fmt: skip


TAGS = {  # in data-path order
    "seats": "Who acts for your party and what each may spend. Keys read it; people change it, some of it by two.",
    "windows": "The spans of hourly slots that are cleared together, with their gate.",
    "planning": "Where workloads belong and what they cost, before any demand stands.",
    "demands": "What a buyer needs: post, fund, withdraw.",
    "admissions": "Demand first: the waitlist of capacity per product and month, and what funded demand lets in.",
    "bids": "What a provider offers, sealed until the window closes.",
    "machines": "Keys of machines, and what they owe: for the agent that runs there.",
    "awards": "Who serves whom, in which slots, at which price.",
    "leases": "Running contracts with verdict, credit and slash case.",
    "delivery": "The live market: heartbeats, probes, readings, counter-readings, health and cases of running leases.",
    "money": "Balances and movements of the asking party.",
    "market": "For everybody: certificates, public bundles, prices.",
    "reports": "Reports of wrongdoing with a deposit, and their outcomes without a name.",
}


class KeyScheme(OpenApiAuthenticationExtension):
    """The key in the schema."""

    target_class = "marketplace.api.auth.KeyAuthentication"
    name = "key"

    def get_security_definition(self, auto_schema: Any) -> dict[str, Any]:
        return {"type": "http", "scheme": "bearer", "bearerFormat": "gx_live_..."}


class SeatScheme(OpenApiAuthenticationExtension):
    """The session in the schema."""

    target_class = "marketplace.api.auth.SeatAuthentication"
    name = "session"

    def get_security_definition(self, auto_schema: Any) -> dict[str, Any]:
        return {"type": "apiKey", "in": "cookie", "name": "sessionid"}


def parameter(name: str, words: str, known: Iterable[str] | None = None) -> OpenApiParameter:
    """Return a query parameter of a list."""
    return OpenApiParameter(name, OpenApiTypes.STR, description=words, enum=list(known) if known else None)


def page_of(shape: type[serializers.Serializer]) -> Any:
    """Return the frame of a list of `shape`."""
    name = f"{_plain(shape)}Page"
    cursor = serializers.CharField(allow_null=True)
    return inline_serializer(name, {"data": shape(many=True), "next_cursor": cursor})


def act_answers(
    status: int, shape: type[serializers.Serializer], *, draft: type[serializers.Serializer] | None = None
) -> dict[int, Any]:
    """Return the answers of an act that went well; `draft` is the shape of a dry run."""
    answers: dict[int, Any] = {status: shape}
    if draft:
        fields = {"dry_run": serializers.BooleanField(), "would_be": draft()}
        answers[200] = inline_serializer(f"{_plain(shape)}Rehearsal", fields)
    return answers


def _plain(shape: type[serializers.Serializer]) -> str:
    return shape.__name__.removesuffix("Out")


PROBLEM = {
    "type": "object",
    "description": "RFC 9457. The facts of a refusal stand beside these members, named as in the list of refusals.",
    "required": ["type", "title", "status", "code"],
    "properties": {
        "type": {"type": "string", "format": "uri-reference", "example": "/problems/demand_first"},
        "title": {"type": "string", "example": "No bid before funded demand."},
        "status": {"type": "integer", "example": 409},
        "code": {"type": "string", "example": "demand_first"},
        "request_id": {"type": "string"},
        "errors": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["pointer", "code", "detail"],
                "properties": {
                    "pointer": {"type": "string", "description": "JSON pointer into the body (RFC 6901)"},
                    "code": {"type": "string"},
                    "detail": {"type": "string"},
                },
            },
        },
    },
    "additionalProperties": True,
}


def finish(result: dict[str, Any], generator: Any, request: Any, public: bool) -> dict[str, Any]:
    """Put the guide at the top, the problem document into the components, and refusals under every operation."""
    result["info"]["description"] = GUIDE.strip() + "\n\n" + markdown_table() + "\n"
    result["tags"] = [{"name": name, "description": words} for name, words in TAGS.items()]
    schemas = result["components"]["schemas"]
    schemas["Problem"] = PROBLEM
    for path, operations in result["paths"].items():
        for method, operation in operations.items():
            operation["summary"] = operation["description"].partition(". ")[0].rstrip(".")
            statuses = [400, 429]
            statuses += [404] if "{" in path else []
            statuses += [401] if operation.get("security") else []
            if method == "post":
                statuses += [402, 403, 404, 409, 413, 415, 422]
            told = ", ".join(map(str, sorted(set(statuses))))
            operation["responses"]["4XX"] = _refusal(f"A refusal ({told}); nothing was written.")
            operation["responses"]["5XX"] = _refusal("Our fault, or busy; nothing was written. Send the same again.")
    return _without_suffix(result)


def _refusal(words: str) -> dict[str, Any]:
    problem = {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}
    return {"description": words, "content": problem}


def _without_suffix(result: dict[str, Any]) -> dict[str, Any]:
    """Call `DemandOut` simply `Demand`: how a class is called here is no concern of a client."""
    names = {name: re.sub(r"(Out|In)$", lambda m: "" if m[0] == "Out" else "Input", name)
             for name in result["components"]["schemas"]}  # fmt: skip
    schemas = result["components"]["schemas"]
    result["components"]["schemas"] = {names[name]: schema for name, schema in sorted(schemas.items())}
    where = "#/components/schemas/"
    return _renamed(result, {where + old: where + new for old, new in names.items()})


def _renamed(part: Any, names: dict[str, str]) -> Any:
    if isinstance(part, dict):
        return {key: names.get(value, value) if key == "$ref" else _renamed(value, names)
                for key, value in part.items()}  # fmt: skip
    if isinstance(part, list):
        return [_renamed(each, names) for each in part]
    return part
