"""The console's addresses are those of its site."""

from __future__ import annotations

from django.urls import path

from marketplace.console.site import console

urlpatterns = [path("", console.urls)]
