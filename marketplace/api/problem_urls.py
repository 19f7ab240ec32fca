"""Where the `type` of a problem document leads."""

from __future__ import annotations

from django.urls import path

from marketplace.api import docs

urlpatterns = [
    path("", docs.refusals, name="problems"),
    path("<slug:code>", docs.refusals, name="problem"),
]
