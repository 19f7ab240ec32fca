"""One settings file; every knob is one typed environment variable that fails loudly on a bad value.

What only production demands is not here but in `marketplace/checks.py`: `manage.py check --deploy` is the go-live list.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from marketplace import postgres
from marketplace.environment import (
    data_folder,
    env_bool,
    env_choice,
    env_int,
    env_list,
    env_quorum,
    env_str,
    sandbox_secret,
    secret_key,
)

BASE_DIR = Path(__file__).resolve().parent.parent
DATA_DIR = data_folder()

DEBUG = env_bool("DEBUG", default=False)
DEMO = env_bool("DEMO", default=True)  # time may be moved forward; every page says so
SECRET_KEY = env_str("SECRET_KEY") or secret_key(DATA_DIR)
ALLOWED_HOSTS = env_list("ALLOWED_HOSTS", default=["127.0.0.1", "localhost", "[::1]", "testserver"])
USE_TZ = True
TIME_ZONE = "UTC"
LANGUAGE_CODE = "en-gb"
FORMAT_MODULE_PATH = "marketplace.formats"
USE_THOUSAND_SEPARATOR = False

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
    "bootstrap",  # the CSS files of django-bootstrap-static
    "django_htmx",
    "heroicons",
    "rest_framework",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "csp",
    "ledger.apps.LedgerConfig",
    "marketplace.apps.MarketplaceConfig",
]
MIDDLEWARE = [
    "marketplace.security.PrivateAnswersMiddleware",  # outermost: also what the envelope makes anew is kept by nobody
    "marketplace.api.envelope.EnvelopeMiddleware",  # the id of a request stands on every answer
    "django.middleware.security.SecurityMiddleware",
    "marketplace.security.ContentPolicyMiddleware",
    "marketplace.security.StaticFilesMiddleware",
    "marketplace.readable.ReadableMiddleware",  # before whatever looks into session, query or form
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django_htmx.middleware.HtmxMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],  # ours win over Unfold's
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    },
]
AUTH_USER_MODEL = "marketplace.User"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
LOGIN_URL = "/login/"
LOGIN_REDIRECT_URL = "/"
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator", "OPTIONS": {"min_length": 12}},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
    {"NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator"},
]

# -- mail: links for seats and passwords. Without a server each letter is a file, which a demo's owner can open.
EMAIL_HOST = env_str("EMAIL_HOST")
EMAIL_PORT = env_int("EMAIL_PORT", default=587, minimum=1, maximum=65_535)
EMAIL_HOST_USER, EMAIL_HOST_PASSWORD = env_str("EMAIL_HOST_USER"), env_str("EMAIL_HOST_PASSWORD")
EMAIL_USE_SSL = env_bool("EMAIL_USE_SSL", default=False)  # TLS from the first byte, port 465
EMAIL_USE_TLS = env_bool("EMAIL_USE_TLS", default=not EMAIL_USE_SSL)  # STARTTLS
EMAIL_TIMEOUT = 10
EMAIL_BACKEND = f"django.core.mail.backends.{'smtp' if EMAIL_HOST else 'filebased'}.EmailBackend"
EMAIL_FILE_PATH = DATA_DIR / "mail"
DEFAULT_FROM_EMAIL = env_str("EMAIL_FROM", default="Grove Exchange <no-reply@localhost>")
PASSWORD_RESET_TIMEOUT = 24 * 3600

DATABASES = {"default": postgres.django_database(DATA_DIR)}
ROOT_URLCONF = "marketplace.urls"
ASGI_APPLICATION = "marketplace.asgi.application"
WSGI_APPLICATION = "marketplace.wsgi.application"

# The chain: empty means the embedded py-evm chain inside the same PostgreSQL.
CHAIN_URL = env_str("CHAIN_URL")
CHAIN_ID = env_int("CHAIN_ID", default=31338, minimum=1)
CHAIN_STUCK_SECONDS = env_int("CHAIN_STUCK_SECONDS", default=180, minimum=1)  # then the same nonce, higher fees
CHAIN_FEE_CEILING_GWEI = env_int("CHAIN_FEE_CEILING_GWEI", default=300, minimum=1, maximum=1_000_000)
# In development the key `funder` gives a key that cannot pay for its calls so much, or what is missing; 0: people do.
CHAIN_TOP_UP_GWEI = env_int("CHAIN_TOP_UP_GWEI", default=0, minimum=0, maximum=10**12)
# Keys: the encrypted keyfile, unless a role is given to a remote signer (role=address) or to AWS KMS (role=key id).
SIGNER_KEYFILE = env_bool("SIGNER_KEYFILE", default=True)
SIGNER_URL = env_str("SIGNER_URL")
SIGNER_KEYS = env_list("SIGNER_KEYS", default=())
SIGNER_KMS_KEYS = env_list("SIGNER_KMS_KEYS", default=())
SIGNER_CA_FILE, SIGNER_CERT_FILE = env_str("SIGNER_CA_FILE"), env_str("SIGNER_CERT_FILE")
SIGNER_CERT_KEY_FILE = env_str("SIGNER_CERT_KEY_FILE")
SIGNER_SECONDS_MAX = env_int("SIGNER_SECONDS_MAX", default=5, minimum=1, maximum=60)
KEY_SIGNATURES_PER_HOUR = env_int("KEY_SIGNATURES_PER_HOUR", default=5000, minimum=1)  # each key but the operator's
# The card processor: without a key our own sandbox, which `up` starts and whose address it puts here.
STRIPE_API_KEY = env_str("STRIPE_API_KEY")
STRIPE_SANDBOX_URL = env_str("STRIPE_SANDBOX_URL", default="http://127.0.0.1:8012")
STRIPE_WEBHOOK_SECRET = env_str("STRIPE_WEBHOOK_SECRET") or ("" if STRIPE_API_KEY else sandbox_secret(DATA_DIR))
CARD_CAP_CENTS = env_int("CARD_CAP_CENTS", default=1_000_000, minimum=0)  # per party, of what may still be disputed
CARD_DELAY_HOURS = env_int("CARD_DELAY_HOURS", default=0, minimum=0)  # before card money goes into escrow
PRICING_SOLVER = env_choice("PRICING_SOLVER", default="warm", choices=("warm", "public"))  # read by `pricing.highs`
# A failed lease's backup steps in after the time of grace, from the first hour that begins when the lead is over: the
# lead covers two calls that have to be final on chain, one after the other.
BACKUP_GRACE_MINUTES = env_int("BACKUP_GRACE_MINUTES", default=10, minimum=0, maximum=1440)
BACKUP_LEAD_MINUTES = env_int("BACKUP_LEAD_MINUTES", default=30, minimum=1, maximum=1440)
PLATFORM_FEE_BPS = env_int("PLATFORM_FEE_BPS", default=250, minimum=0, maximum=10_000)

# -- panels: how many of how many sign a benchmark, a class's place and tier, and a slash. The contract is deployed with
# the same figures; with fewer slashers than its panel has at first it takes no slash at all.
ATTEST_QUORUM = env_quorum("ATTEST_QUORUM", default="2/3" if DEMO else "5/7")
COMPLIANCE_QUORUM = env_quorum("COMPLIANCE_QUORUM", default="2/3")
SLASH_QUORUM = env_quorum("SLASH_QUORUM", default="2/3" if DEMO else "7/9")
# A baseline counts only with memory, bandwidth and place measured; the demo's chain is too small for that.
PROOF_NEEDS_MEMORY = env_bool("PROOF_NEEDS_MEMORY", default=not DEMO)

# -- jobs: the outbox in the database is the truth, the broker carries ids as a hint ------------------------------
BROKER_URL = env_str("BROKER_URL")
QUEUE_DIR = DATA_DIR / "queue"
CELERY_BROKER_URL = BROKER_URL or "filesystem://localhost"
CELERY_BROKER_TRANSPORT_OPTIONS: dict[str, Any] = {} if BROKER_URL else {
    "data_folder_in": str(QUEUE_DIR / "messages"),
    "data_folder_out": str(QUEUE_DIR / "messages"),
    "control_folder": str(QUEUE_DIR / "control"),
    "polling_interval": 0.05,  # the default of 1 s makes about four tasks a second
}
CELERY_IMPORTS = ["marketplace.demo.story", "ledger.rails.card_jobs"]  # handlers of jobs that stand in no tasks.py
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_TASK_PUBLISH_RETRY = False  # with the broker down a retry would block the request that only drops a hint
CELERY_TASK_IGNORE_RESULT = True
CELERY_TASK_ACKS_LATE = True
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
CELERY_WORKER_HIJACK_ROOT_LOGGER = False
CELERY_BEAT_SCHEDULER = "celery.beat:Scheduler"  # in memory: a schedule file would not survive kill -9 whole
CELERY_TIMEZONE = "UTC"

# -- static files: found where the packages keep them in the demo, collected once in production --------------------
STATIC_URL = "/static/"
STATIC_ROOT = DATA_DIR / "static"
STATIC_ROOT.mkdir(exist_ok=True)  # WhiteNoise warns when it is missing
WHITENOISE_USE_FINDERS = DEMO
WHITENOISE_MAX_AGE = 3600

# -- security ------------------------------------------------------------------------------------------------------
HTTPS = env_bool("HTTPS", default=not DEMO)  # the demo speaks plain HTTP to this machine alone
SECURE_SSL_REDIRECT = HTTPS
SESSION_COOKIE_SECURE = HTTPS
CSRF_COOKIE_SECURE = HTTPS
SECURE_HSTS_SECONDS = 31_536_000 if HTTPS else 0
SECURE_HSTS_INCLUDE_SUBDOMAINS = HTTPS
SECURE_HSTS_PRELOAD = HTTPS
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https") if env_bool("BEHIND_PROXY", default=False) else None
CSRF_TRUSTED_ORIGINS = env_list("CSRF_TRUSTED_ORIGINS", default=[])
SECURE_REFERRER_POLICY = "same-origin"
SECURE_CROSS_ORIGIN_OPENER_POLICY = "same-origin"
SESSION_COOKIE_HTTPONLY = True
SESSION_COOKIE_SAMESITE = "Lax"
SESSION_COOKIE_AGE = 12 * 3600
X_FRAME_OPTIONS = "DENY"
CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": ["'none'"],
        "script-src": ["'self'"],
        "style-src": ["'self'"],
        "img-src": ["'self'", "data:"],
        "font-src": ["'self'"],
        "connect-src": ["'self'"],
        "form-action": ["'self'"],
        "base-uri": ["'none'"],
        "frame-ancestors": ["'none'"],
    },
}
CONTENT_POLICY_EXCEPTIONS = {  # by path, and nothing else: Unfold's Alpine evaluates, Swagger writes style attributes
    "/console/": {"script-src": ["'unsafe-eval'", "'unsafe-inline'"], "style-src": ["'unsafe-inline'"]},
    "/api/docs/": {"style-src": ["'unsafe-inline'"]},
}

# -- API -----------------------------------------------------------------------------------------------------------
REST_FRAMEWORK = {
    "EXCEPTION_HANDLER": "marketplace.api.problems.exception_handler",
    "DEFAULT_SCHEMA_CLASS": "drf_spectacular.openapi.AutoSchema",
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_PARSER_CLASSES": ["rest_framework.parsers.JSONParser"],
    "DEFAULT_AUTHENTICATION_CLASSES": ["rest_framework.authentication.SessionAuthentication"],
    "DEFAULT_PERMISSION_CLASSES": ["rest_framework.permissions.IsAuthenticated"],  # a view that forgets is closed
    "DEFAULT_VERSIONING_CLASS": None,
    "TEST_REQUEST_DEFAULT_FORMAT": "json",
}
API_PARTY_PER_MINUTE = env_int("API_PARTY_PER_MINUTE", default=600, minimum=1)
API_ADDRESS_PER_MINUTE = env_int("API_ADDRESS_PER_MINUTE", default=240, minimum=1)
SPECTACULAR_SETTINGS = {
    "TITLE": "Grove Exchange",
    "DESCRIPTION": "Post demand, bid capacity, follow leases and money. Refusals are RFC 9457 problem documents.",
    "VERSION": "1",
    "OAS_VERSION": "3.1.0",
    "SERVE_INCLUDE_SCHEMA": False,
    "SCHEMA_PATH_PREFIX": "/api/v1",
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_FAVICON_HREF": f"{STATIC_URL}grove/logo.svg",
    "SWAGGER_UI_SETTINGS": {"deepLinking": True, "defaultModelsExpandDepth": 0, "docExpansion": "list"},
    "POSTPROCESSING_HOOKS": ["marketplace.api.schema.finish"],
    "DISABLE_ERRORS_AND_WARNINGS": False,
}
UNFOLD = {
    "SITE_TITLE": "Grove Exchange",
    "SITE_HEADER": "Grove Exchange",
    "SITE_SUBHEADER": "Foundation console",
    "SITE_URL": "/market/",
    "SITE_ICON": "marketplace.console.site.icon",
    "SITE_FAVICONS": [{"rel": "icon", "type": "image/svg+xml", "href": f"{STATIC_URL}grove/logo.svg"}],
    "SHOW_VIEW_ON_SITE": False,
    "SHOW_HISTORY": False,
    "ENVIRONMENT": "marketplace.console.site.environment",
    "STYLES": ["marketplace.console.site.stylesheet"],
    "SIDEBAR": {"show_search": True, "navigation": "marketplace.console.site.navigation"},
    "COLORS": {"primary": {  # the site's blue; 600 is its link colour, 6.1 : 1 on white
        "50": "#eff5fd", "100": "#e5effc", "200": "#c7dcfa", "300": "#9cc4ff", "400": "#6ea8fe", "500": "#3b82f0",
        "600": "#0a58ca", "700": "#084aab", "800": "#07408f", "900": "#0b3270", "950": "#0a2148",
    }},
}  # fmt: skip

# -- logs: to standard error, one line each, secrets cut out -------------------------------------------------------
LOG_LEVEL = env_str("LOG_LEVEL", default="INFO")
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "filters": {"no_secrets": {"()": "marketplace.security.NoSecrets"}},
    "formatters": {"line": {"format": "{asctime} {levelname} {name}: {message}", "style": "{"}},
    "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "line", "filters": ["no_secrets"]}},
    "root": {"handlers": ["stderr"], "level": LOG_LEVEL},
    "loggers": {
        "django.server": {"handlers": ["stderr"], "propagate": False},
        "celery.app.trace": {"level": "WARNING"},  # a line for each of three jobs a second hides the others
        "celery.worker.strategy": {"level": "WARNING"},
        "celery.beat": {"level": "WARNING"},
    },
}
