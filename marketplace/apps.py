"""The one Django app of the market: every stage's tables live in it, in one migration history."""

from __future__ import annotations

from django.apps import AppConfig


class MarketplaceConfig(AppConfig):
    """Tables of all stages, re-exported by `marketplace.models`."""

    name = "marketplace"
    label = "marketplace"
    verbose_name = "Grove Exchange"

    def ready(self) -> None:
        """Load Celery, so that every `shared_task` binds to our app, and the go-live checks."""
        from marketplace import celery, checks  # noqa: F401
