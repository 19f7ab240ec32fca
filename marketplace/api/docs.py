"""The documentation: the committed schema, the page that shows it, and a page per refusal."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_safe
from drf_spectacular.views import SpectacularSwaggerSplitView
from rest_framework.permissions import AllowAny

from marketplace.api.reference import list_refusals

SCHEMA = Path(__file__).with_name("openapi.yaml")


class Docs(SpectacularSwaggerSplitView):
    """The schema, readable and tryable. The script comes by its own request, as the content policy asks."""

    url_name = "openapi"
    template_name = "api/docs.html"
    permission_classes: ClassVar[Any] = [AllowAny]
    authentication_classes: ClassVar[Any] = []


@require_safe
def schema_file(request: HttpRequest) -> HttpResponse:
    """The OpenAPI schema as committed; a test keeps it equal to the code."""
    return HttpResponse(SCHEMA.read_bytes(), content_type="application/yaml")


@require_safe
def refusals(request: HttpRequest, code: str = "") -> HttpResponse:
    """Every refusal with its status and meaning; with a code, that one. `type` of a problem document leads here."""
    lines = [line for line in list_refusals() if not code or line.code == code]
    if not lines:
        raise Http404("no such refusal")
    rows = [(line.code, line.status, line.meaning.replace("`", "")) for line in lines]
    return render(request, "api/problems.html", {"rows": rows, "code": code})
