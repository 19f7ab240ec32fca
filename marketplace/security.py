"""What stands around every page: static files, the content policy with its two exceptions, logs without secrets."""

from __future__ import annotations

import logging
import re
from dataclasses import replace

from csp.middleware import CSPMiddleware
from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
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


class ContentPolicyMiddleware(CSPMiddleware):
    """Send the content policy of the settings, widened only below the paths in `CONTENT_POLICY_EXCEPTIONS`."""

    def get_policy_parts(self, request: HttpRequest, response: HttpResponseBase, report_only: bool = False):
        parts = super().get_policy_parts(request, response, report_only)
        for prefix, widening in settings.CONTENT_POLICY_EXCEPTIONS.items():
            if request.path_info.startswith(prefix):
                return replace(parts, update=widening)
        return parts


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
