"""What every address of the API does around its one call: who asks, how often, in which form, in which frame."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, ClassVar
from uuid import UUID

from django.db import transaction
from rest_framework.negotiation import BaseContentNegotiation
from rest_framework.permissions import AllowAny, IsAuthenticated
from rest_framework.renderers import JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.serializers import Serializer
from rest_framework.views import APIView

from marketplace import clock
from marketplace.api import problems
from marketplace.api.auth import KeyAuthentication, SeatAuthentication, party_of
from marketplace.api.errors import NoSuchPage, ReadOnlyKey, TooMany
from marketplace.api.fields import Body, NoBody, PageFrame
from marketplace.api.idempotency import Reply, once, rehearsed, require_key
from marketplace.api.paging import Page, choice, next_link, parameters
from marketplace.api.parsing import BODY_BYTES_MAX, parse_object, read_raw, require_json_type
from marketplace.api.throttles import Rate, count_request
from marketplace.errors import KeyCapped
from marketplace.parties.caps import is_capped

PATH_ID = re.compile(r"[a-z]{3}_([0-9a-f]{32})")


class OnlyJson(BaseContentNegotiation):
    """Answers in JSON whatever the Accept header says: there is no second form."""

    def select_parser(self, request: Request, parsers: Any) -> Any:
        return parsers[0]

    def select_renderer(self, request: Request, renderers: Any, format_suffix: str | None = None) -> Any:
        return renderers[0], renderers[0].media_type


class ApiView(APIView):
    """An address of the API. Sets `request.party` and `request.now`; every answer carries the rate headers."""

    authentication_classes: ClassVar[Any] = [KeyAuthentication, SeatAuthentication]
    permission_classes: ClassVar[Any] = [IsAuthenticated]
    renderer_classes: ClassVar[Any] = [JSONRenderer]
    content_negotiation_class = OnlyJson
    http_method_names: ClassVar[Any] = ["get", "head", "post", "put", "patch", "delete"]  # OPTIONS: see the schema
    format_kwarg = None
    rate: Rate | None = None

    def initialize_request(self, request: Any, *args: Any, **kwargs: Any) -> Request:
        found = super().initialize_request(request, *args, **kwargs)
        found.request_id = getattr(request, "request_id", "")  # type: ignore[attr-defined]
        return found

    def initial(self, request: Any, *args: Any, **kwargs: Any) -> None:
        """Count the request even when it is refused, so that keys cannot be guessed faster than others may ask."""
        request.accepted_renderer, request.accepted_media_type = self.perform_content_negotiation(request)
        request.version = request.versioning_scheme = None
        request.now, refused = clock.now(), None
        try:
            if request.method == "POST" and hasattr(self, "post"):
                require_json_type(request)
            self.perform_authentication(request)
        except Exception as error:
            refused = error
        request.party = None if refused else party_of(request)
        self.rate = count_request(request, request.party, request.now)
        if self.rate.is_over:
            wait = self.rate.reset_seconds
            raise TooMany("Too many requests; wait.", retry_after_seconds=wait, limit=self.rate.limit)
        if refused:
            raise refused
        self.check_permissions(request)

    def finalize_response(self, request: Any, response: Any, *args: Any, **kwargs: Any) -> Any:
        answer = super().finalize_response(request, response, *args, **kwargs)
        for name, value in (self.rate.headers() if self.rate else {}).items():
            answer.headers[name] = value
        return answer

    def get_exception_handler(self) -> Any:
        return problems.exception_handler


class PublicView(ApiView):
    """An address that needs no key. A wrong key is refused all the same."""

    permission_classes: ClassVar[Any] = [AllowAny]


class ListMixin:
    """One page of rows: `data`, and `next_cursor` until there is no more; a `frame` says more around them."""

    shape: ClassVar[type[Serializer]]
    frame: ClassVar[type[PageFrame]]
    filters: ClassVar[tuple[str, ...]] = ()

    def query(self, request: Any) -> dict[str, str]:
        """Return the checked query of a list."""
        return parameters(request, {*self.filters, "limit", "cursor"})

    def page(self, request: Any, page: Page, **context: Any) -> Response:
        """Return a page in its frame, with a Link header to the next one."""
        data = self.shape(page.rows, many=True, context={"party": request.party, **context}).data
        link = next_link(request, page)
        return Response({"data": data, "next_cursor": page.next_cursor}, headers={"Link": link} if link else None)

    def framed(self, request: Any, page: Page, **around: Any) -> Response:
        """Return a page in the view's own frame, `around` being what that says beside its rows."""
        link = next_link(request, page)
        body = self.frame({**around, "data": page.rows, "next_cursor": page.next_cursor}).data
        return Response(body, headers={"Link": link} if link else None)


class ActView(ApiView):
    """A POST: one act under its Idempotency-Key. A subclass gives `body`, `route` and `act`."""

    body: ClassVar[type[Body]] = NoBody
    may_rehearse: ClassVar[bool] = False
    body_may_be_empty: ClassVar[bool] = False
    is_idempotent: ClassVar[bool] = False  # the act itself knows what it has done: no reply is remembered
    bytes_max: ClassVar[int] = BODY_BYTES_MAX
    is_under_caps: ClassVar[bool] = False  # what it does is counted under the caps of a key, or lessens what is out

    def act(self, request: Any, fields: dict[str, Any], **ids: Any) -> tuple[int, dict[str, Any]]:
        """Call the one service, and return status and body of the answer."""
        raise NotImplementedError

    def rehearse(self, request: Any, fields: dict[str, Any], **ids: Any) -> tuple[int, dict[str, Any]]:
        """Do the act for a dry run, which undoes it; a subclass may tell more of it."""
        return self.act(request, fields, **ids)

    def perform(self, request: Any, **ids: Any) -> Response:
        """Check form and key, then act once, or rehearse with `?dry_run=true`."""
        if request.auth is not None and not request.auth.may_write:
            raise ReadOnlyKey("This key may only read.")
        if request.auth is not None and not self.is_under_caps and is_capped(request.auth):
            raise KeyCapped("A capped key may only place, fund and withdraw its own orders.", cap="acts")
        query = parameters(request, {"dry_run"} if self.may_rehearse else ())
        is_rehearsal = choice(query, "dry_run", ("true", "false")) == "true"
        key = require_key(request.META.get("HTTP_IDEMPOTENCY_KEY"))
        raw = read_raw(request, self.bytes_max)
        given = parse_object(raw, may_be_empty=self.body is NoBody or self.body_may_be_empty)

        def act() -> tuple[int, dict[str, Any]]:
            return self.act(request, self.body(data=given).read(), **ids)

        if is_rehearsal:
            draft = rehearsed(lambda: self.rehearse(request, self.body(data=given).read(), **ids))
            del draft["id"]  # there is no such row
            return Response({"dry_run": True, "would_be": draft})
        if self.is_idempotent:
            with transaction.atomic():
                reply = Reply(*act())
            return Response(reply.body, status=reply.status)
        route = f"POST {request.path}"
        reply = once(party=request.party, key=key, route=route, raw=raw, act=act, now=request.now)
        return Response(reply.body, status=reply.status, headers=_reply_headers(request, reply))


def _reply_headers(request: Any, reply: Any) -> dict[str, str]:
    headers = {"Idempotency-Replayed": "true"} if reply.is_replayed else {}
    if reply.status == 201:
        headers["Location"] = f"{request.path}/{reply.body['id']}"
    return headers


class NoSuchAddress(PublicView):
    """Whatever stands nowhere in the API."""

    schema = None
    http_method_names: ClassVar[Any] = ["get", "post", "put", "patch", "delete"]

    def get(self, request: Any, *args: Any, **kwargs: Any) -> Response:
        raise NoSuchPage("There is no such thing here.")

    post = put = patch = delete = get


def key_of(text: str, prefix: str) -> UUID:
    """Return the id in a path. An id of another form names nothing: the same 404 as a missing one."""
    found = PATH_ID.fullmatch(text)
    if not found or not text.startswith(f"{prefix}_"):
        raise not_found()
    return UUID(found[1])


def key_of_party(request: Any) -> UUID | None:
    """Return the id of who asks, or None where nobody is named."""
    return request.party.pk if request.party is not None else None


def found(thing: Any) -> Any:
    """Return `thing`; None is the one 404, whether it is missing or somebody else's."""
    if thing is None:
        raise not_found()
    return thing


def not_found() -> NoSuchPage:
    """Return the refusal that missing and other people's objects share."""
    return NoSuchPage("There is no such thing here.")


def window_filter(query: Mapping[str, str]) -> UUID | None:
    """Return the window a list is narrowed to. One that does not exist is 404 as anywhere."""
    return key_of(query["window"], "win") if "window" in query else None
