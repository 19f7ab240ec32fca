"""Text that no database keeps is refused in one place, at every door, before anything is done: NUL in a path, a query,
a form, a cookie or a JSON body, and half a surrogate pair in JSON. What only shows at the database is refused there.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django.db import DataError
from django.http import HttpRequest, HttpResponse
from django.template.loader import render_to_string
from django.utils.deprecation import MiddlewareMixin

from marketplace.api.envelope import is_api
from marketplace.api.errors import UnreadableText
from marketplace.api.problems import problem_answer

NUL = "\x00"
FORMS = ("application/x-www-form-urlencoded", "multipart/form-data")
SENTENCE = "A text holds NUL, which cannot be kept. Take it out and send it again."
# What PostgreSQL and its driver say of a text with NUL, and of JSON with its escape.
SAID_BY_THE_DATABASE = ("cannot contain NUL", "unsupported Unicode escape sequence", "invalid byte sequence")


class ReadableMiddleware(MiddlewareMixin):
    """Answer 400 to a request with NUL in it. It stands before whatever looks into session, query or form."""

    def process_request(self, request: HttpRequest) -> HttpResponse | None:
        if NUL in request.path_info:
            return _refusal(request, "path")
        if _holds_nul(request.GET):
            return _refusal(request, "query")
        if any(NUL in each for each in request.COOKIES.values()):
            return _refusal(request, "cookie")
        return None

    def process_view(self, request: HttpRequest, view: Any, args: Any, kwargs: Any) -> HttpResponse | None:
        """Look into a form once its token was checked; the API takes no form and says so itself."""
        if request.content_type not in FORMS or is_api(request):
            return None
        names = [each.name or "" for _, files in request.FILES.lists() for each in files]
        return _refusal(request, "form") if _holds_nul(request.POST) or any(NUL in name for name in names) else None

    def process_exception(self, request: HttpRequest, exception: Exception) -> HttpResponse | None:
        """What came to the database by another way, such as inside a file: its transaction is undone already."""
        is_told = isinstance(exception, DataError) and any(words in str(exception) for words in SAID_BY_THE_DATABASE)
        return _refusal(request, "text") if is_told else None


def refuse_unreadable(value: Any, pointer: str = "") -> None:
    """Raise UnreadableText, with the place in it, for a JSON value of which some text or name cannot be kept."""
    if isinstance(value, str):
        if NUL in value or any("\ud800" <= sign <= "\udfff" for sign in value):
            raise UnreadableText("A text holds NUL or half a surrogate pair.", pointer=pointer)
    elif isinstance(value, dict):
        for name, part in value.items():
            refuse_unreadable(name, pointer)
            refuse_unreadable(part, f"{pointer}/{name.replace('~', '~0').replace('/', '~1')}")
    elif isinstance(value, list):
        for place, part in enumerate(value):
            refuse_unreadable(part, f"{pointer}/{place}")


def _holds_nul(fields: Any) -> bool:
    def texts() -> Iterable[str]:
        for name, values in fields.lists():
            yield name
            yield from values

    return any(NUL in text for text in texts())


def _refusal(request: HttpRequest, where: str) -> HttpResponse:
    if is_api(request):
        return problem_answer(UnreadableText(SENTENCE, where=where), getattr(request, "request_id", ""))
    # Without the request: the page may not look into a session whose own cookie is what cannot be read.
    return HttpResponse(render_to_string("400.html", {"sentence": SENTENCE}), status=400)
