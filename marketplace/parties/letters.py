"""Letters to people, by Django's mail: SMTP where `EMAIL_HOST` is set, else files in the data folder.

A mail server may take ten seconds: only jobs of the outbox send letters, after the commit of what they tell.
"""

from __future__ import annotations

from collections.abc import Mapping

from django.conf import settings
from django.core.mail import send_mail
from django.template.loader import render_to_string


def send_letter(*, to: str, name: str, subject: str, about: Mapping[str, object]) -> None:
    """Send `templates/emails/<name>.txt`. Raises what the mail server raises."""
    send_mail(subject, render_to_string(f"emails/{name}.txt", dict(about)), settings.DEFAULT_FROM_EMAIL, [to])


def are_mailed() -> bool:
    """Whether a mail server is named that letters go to; else each is a file in the data folder."""
    return bool(settings.EMAIL_HOST)
