"""Letters to people, by Django's mail: SMTP where `EMAIL_HOST` is set, else files in the data folder."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from django.conf import settings
from django.core.mail import send_mail
from django.template.loader import render_to_string

log = logging.getLogger(__name__)


def send_letter(*, to: str, name: str, subject: str, about: Mapping[str, object]) -> None:
    """Send `templates/emails/<name>.txt`. Raises what the mail server raises."""
    send_mail(subject, render_to_string(f"emails/{name}.txt", dict(about)), settings.DEFAULT_FROM_EMAIL, [to])


def try_letter(*, to: str, name: str, subject: str, about: Mapping[str, object]) -> bool:
    """Send a letter whose link is also shown on a page: returns whether it went out, so that the page can say so."""
    try:
        send_letter(to=to, name=name, subject=subject, about=about)
    except OSError as error:  # SMTP's own errors are among them
        log.warning("a letter was not sent: %s", type(error).__name__)
        return False
    return bool(settings.EMAIL_HOST)
