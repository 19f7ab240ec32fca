"""The same site for a WSGI server; the event stream needs `marketplace.asgi`."""

from __future__ import annotations

import os

from django.core.wsgi import get_wsgi_application

from marketplace import postgres

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "marketplace.settings")
postgres.ensure_running()
application = get_wsgi_application()
