"""One settings file; every knob is one typed environment variable that fails loudly on a bad value."""

from __future__ import annotations

from pathlib import Path

from marketplace import postgres
from marketplace.environment import data_folder, env_bool, env_int, env_list, env_str, secret_key

BASE_DIR = Path(__file__).resolve().parent.parent
DATA_DIR = data_folder()

DEBUG = env_bool("DEBUG", default=False)
DEMO = env_bool("DEMO", default=True)  # time may be moved forward; every page says so
SECRET_KEY = env_str("SECRET_KEY", default="") or secret_key(DATA_DIR)
ALLOWED_HOSTS = env_list("ALLOWED_HOSTS", default=["127.0.0.1", "localhost", "[::1]", "testserver"])
USE_TZ = True
TIME_ZONE = "UTC"
LANGUAGE_CODE = "en-gb"

INSTALLED_APPS = [
    "unfold",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.humanize",
    "whitenoise.runserver_nostatic",
    "django.contrib.staticfiles",
    "django_bootstrap_static",
    "django_htmx",
    "heroicons",
    "rest_framework",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "ledger.apps.LedgerConfig",
    "marketplace.apps.MarketplaceConfig",
]
AUTH_USER_MODEL = "marketplace.User"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

DATABASES = {"default": postgres.django_database(DATA_DIR)}
ROOT_URLCONF = "marketplace.urls"
ASGI_APPLICATION = "marketplace.asgi.application"
WSGI_APPLICATION = "marketplace.wsgi.application"

# The chain: empty means the embedded py-evm chain inside the same PostgreSQL.
CHAIN_URL = env_str("CHAIN_URL", default="")
CHAIN_ID = env_int("CHAIN_ID", default=31338)
BROKER_URL = env_str("BROKER_URL", default="")
PRICING_SOLVER = env_str("PRICING_SOLVER", default="public")
PLATFORM_FEE_BPS = env_int("PLATFORM_FEE_BPS", default=250)
