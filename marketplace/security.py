"""What stands around every page: static files, the content policy with its two exceptions, logs without secrets."""

from __future__ import annotations

import logging
import re
from dataclasses import replace

from csp.middleware import CSPMiddleware
from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.utils.deprecation import MiddlewareMixin
from whitenoise.middleware import WhiteNoiseMiddleware
from whitenoise.responders import StaticFile

SECRET_SHAPES = re.compile(
    r"""(?P<kept>
        ://[^/\s:@]*:(?=[^@\s/]+@)                       # scheme://user:PASSWORD@host
      | gx_(?:live|test)_\w{8}_?                          # API key after its look-up part
      | /invitation/(?=[\w-]{20}) | /password/[\w-]+/(?=[\w-]{20})  # links that set a password, once
      | (?:authorization|cookie|x-api-key|idempotency-key)["']?\s*[:=]\s*["']?(?:bearer\s+)?
      | (?:password|passwd|secret|secret_key|private_key|token)["']?\s*[:=]\s*["']?
    )(?P<cut>[^\s"',;@]+)""",
    re.IGNORECASE | re.VERBOSE,
)

PRIVATE_DOORS = ("/portal/", "/onboarding/", "/console/", "/api/v1", "/login/", "/logout/", "/webhooks/")


class ContentPolicyMiddleware(CSPMiddleware):
    """Send the content policy of the settings, widened only below the paths in `CONTENT_POLICY_EXCEPTIONS`."""

    def get_policy_parts(self, request: HttpRequest, response: HttpResponseBase, report_only: bool = False):
        parts = super().get_policy_parts(request, response, report_only)
        for prefix, widening in settings.CONTENT_POLICY_EXCEPTIONS.items():
            if request.path_info.startswith(prefix):
                return replace(parts, update=widening)
        return parts


class PrivateAnswersMiddleware(MiddlewareMixin):
    """No cache keeps what one person is shown: `private, no-store` stands on every answer to somebody who is signed in
    or has a key, on every answer that sets a cookie, and on all that stands behind a door. Files for everybody say for
    themselves how long they may be kept."""

    def process_response(self, request: HttpRequest, response: HttpResponseBase) -> HttpResponseBase:
        is_known = settings.SESSION_COOKIE_NAME in request.COOKIES or "HTTP_AUTHORIZATION" in request.META
        is_behind_a_door = request.path_info.startswith(PRIVATE_DOORS)
        if is_known or is_behind_a_door or response.cookies:
            response.headers.setdefault("Cache-Control", "private, no-store")
        return response


class StaticFilesMiddleware(WhiteNoiseMiddleware):
    """WhiteNoise for an asynchronous server: its own streamed answer would be read whole there, with a warning."""

    @staticmethod
    def serve(static_file: StaticFile, request: HttpRequest) -> HttpResponse:
        found = static_file.get_response(request.method, request.META)
        body = b""
        if found.file is not None:
            with found.file:
                body = found.file.read()
        answer = HttpResponse(body, status=int(found.status))
        del answer["content-type"]
        for name, value in found.headers:
            answer[name] = value
        return answer


class NoSecrets(logging.Filter):
    """Cut passwords, keys and tokens out of a log record, its arguments and its traceback."""

    def filter(self, record: logging.LogRecord) -> bool:
        record.msg = without_secrets(record.getMessage())
        record.args = None
        if record.exc_info and not record.exc_text:
            record.exc_text = without_secrets(logging.Formatter().formatException(record.exc_info))
        return True


def without_secrets(text: str) -> str:
    """Return `text` with each secret-looking value replaced by `***`."""
    return SECRET_SHAPES.sub(lambda found: found["kept"] + "***", text)
