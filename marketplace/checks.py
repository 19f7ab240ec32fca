"""The go-live list: what production demands and the demo does not. Run by `manage.py check --deploy`."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Error, Tags, Warning, register

from marketplace.environment import env_str
from marketplace.postgres import is_embedded, product_logs_in_by_itself


@register(Tags.security, deploy=True)
def production_settings_are_given(**_: Any) -> list[CheckMessage]:
    """Return one error for each default that is right on a laptop and wrong in production."""
    demands = [
        ("E001", settings.DEMO, "DEMO is on: time can be moved and every page says so.", "Set DEMO=0."),
        ("E002", settings.DEBUG, "DEBUG is on: errors show source and settings.", "Set DEBUG=0."),
        ("E003", not env_str("SECRET_KEY"), "SECRET_KEY is a file on this machine.", "Set SECRET_KEY from a vault."),
        ("E004", is_embedded(), "The database is the embedded one.", "Set DATABASE_URL and DATABASE_PRODUCT_URL."),
        ("E012", not product_logs_in_by_itself(),
         "The servers log in as the owner of the tables: what became grove_app by SET ROLE goes back by RESET ROLE.",
         "Set DATABASE_PRODUCT_URL to grove_app's own login and unset DATABASE_ROLE; only migrate needs the owner's."),
        ("E005", not settings.BROKER_URL, "The queue is a folder of this machine.", "Set BROKER_URL."),
        ("E006", not settings.CHAIN_URL, "The chain is the embedded one: nobody else holds it.", "Set CHAIN_URL."),
        ("E011", settings.SIGNER_KEYFILE, "Keys are derived from a file on this machine.",
         "Give each role a key elsewhere (SIGNER_KEYS, SIGNER_KMS_KEYS) and set SIGNER_KEYFILE=0."),
        ("E007", not env_str("ALLOWED_HOSTS"), "Only this machine may ask for pages.", "Set ALLOWED_HOSTS."),
        ("E010", bool(settings.STRIPE_API_KEY) and not settings.STRIPE_WEBHOOK_SECRET,
         "No webhook of Stripe would be believed.", "Set STRIPE_WEBHOOK_SECRET."),
        ("E008", not settings.HTTPS, "Cookies travel over plain HTTP.", "Set HTTPS=1 behind a TLS end point."),
    ]
    return [Error(text, hint=hint, id=f"marketplace.{number}") for number, missing, text, hint in demands if missing]


@register(Tags.security, deploy=True)
def owner_stays_away_from_servers(**_: Any) -> list[CheckMessage]:
    """Warn where a process that serves could read the login of the owner of the tables."""
    if not (env_str("DATABASE_URL") and env_str("DATABASE_PRODUCT_URL")):
        return []
    return [Warning("The owner's login stands beside the product's.", id="marketplace.W002",
                    hint="Keep DATABASE_URL to the job that runs migrate; servers need DATABASE_PRODUCT_URL alone.")]


@register(Tags.security, deploy=True)
def assertions_are_kept(**_: Any) -> list[CheckMessage]:
    """Refuse `python -O`: the pricing engine asserts its promises before it returns them."""
    if __debug__:
        return []
    return [Error("Python runs with -O, which drops assertions.", hint="Unset PYTHONOPTIMIZE.", id="marketplace.E009")]


@register(Tags.security, deploy=True)
def panels_are_large(**_: Any) -> list[CheckMessage]:
    """Warn where fewer than 5 sign a benchmark (at 10 % dishonest ones 2 of 3 fail 150 times as often) or 7 a slash."""
    weak = []
    if settings.ATTEST_QUORUM.needed < 5:
        weak.append(Warning(f"A benchmark is attested by {settings.ATTEST_QUORUM}.", hint="Set ATTEST_QUORUM=5/7.",
                            id="marketplace.W003"))  # fmt: skip
    if settings.SLASH_QUORUM.needed < 7:
        weak.append(Warning(f"Stake is taken by {settings.SLASH_QUORUM}.", hint="Set SLASH_QUORUM=7/9.",
                            id="marketplace.W004"))  # fmt: skip
    return weak


@register(Tags.security, deploy=True)
def letters_are_sent(**_: Any) -> list[CheckMessage]:
    """Warn where links for seats and passwords would only be written into files of the server."""
    if settings.EMAIL_HOST:
        return []
    return [Warning("No mail server is named: nobody gets a link for a forgotten password.",
                    hint="Set EMAIL_HOST, EMAIL_FROM and the login.", id="marketplace.W005")]


@register(Tags.security, deploy=True)
def static_files_are_collected(**_: Any) -> list[CheckMessage]:
    """Warn when production would answer every stylesheet with 404."""
    if settings.WHITENOISE_USE_FINDERS or (settings.STATIC_ROOT / "unfold").is_dir():
        return []
    return [Warning("No static files are collected.", hint="Run manage.py collectstatic.", id="marketplace.W001")]
