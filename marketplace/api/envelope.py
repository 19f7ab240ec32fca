"""Around every answer: a request id, and a problem document where an API answer was made outside its views."""

from __future__ import annotations

import logging
import secrets

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.utils.deprecation import MiddlewareMixin

from marketplace.api.problems import MEDIA_TYPE, plain_problem

API_PREFIX = "/api/v1"
log = logging.getLogger(__name__)


def is_api(request: HttpRequest) -> bool:
    """Return whether the request is for the API, so that it is answered with a problem document."""
    return request.path_info == API_PREFIX or request.path_info.startswith(f"{API_PREFIX}/")


class EnvelopeMiddleware(MiddlewareMixin):
    """Give each request an id that its answer, its problem document and the log carry."""

    def process_request(self, request: HttpRequest) -> None:
        request.request_id = f"req_{secrets.token_hex(12)}"  # type: ignore[attr-defined]

    def process_response(self, request: HttpRequest, response: HttpResponseBase) -> HttpResponseBase:
        request_id = getattr(request, "request_id", "")
        if response.status_code >= 500:
            log.error("request %s was answered with %s: %s", request_id, response.status_code, request.path)
        if self._is_foreign_error(request, response):
            response = self._as_problem(response, request_id)
        response.headers["X-Request-ID"] = request_id
        return response

    def _is_foreign_error(self, request: HttpRequest, response: HttpResponseBase) -> bool:
        is_error = response.status_code >= 400 and not (settings.DEBUG and response.status_code >= 500)
        return is_api(request) and is_error and response.headers.get("Content-Type", "") != MEDIA_TYPE

    def _as_problem(self, response: HttpResponseBase, request_id: str) -> HttpResponse:
        answer = plain_problem(response.status_code, request_id)
        for name in ("Allow", "Retry-After", "WWW-Authenticate"):
            if name in response.headers:
                answer.headers[name] = response.headers[name]
        return answer
