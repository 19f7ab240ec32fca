"""The web process: `uvicorn marketplace.asgi:application`."""

from __future__ import annotations

import os

from django.core.asgi import get_asgi_application

from marketplace import postgres

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "marketplace.settings")
postgres.ensure_running()
application = get_asgi_application()
