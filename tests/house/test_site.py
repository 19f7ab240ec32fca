"""What stands around every page, and what a wrong setting looks like to a person."""

from __future__ import annotations

import io
import logging
import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest
from django.http import HttpResponse
from django.test import Client, RequestFactory, override_settings

from marketplace import checks
from marketplace.environment import CHECKOUT
from marketplace.management.progress import ProgressPrinter
from marketplace.notices.services import report_progress
from marketplace.security import ContentPolicyMiddleware, NoSecrets, without_secrets

STRICT = {
    "default-src 'none'", "script-src 'self'", "style-src 'self'", "img-src 'self' data:", "font-src 'self'",
    "connect-src 'self'", "form-action 'self'", "base-uri 'none'", "frame-ancestors 'none'",
}  # fmt: skip
NOW = datetime(2027, 3, 1, tzinfo=UTC)


def policy_at(path: str) -> set[str]:
    """Return the parts of the content policy a page at `path` is sent with."""
    answer = ContentPolicyMiddleware(lambda request: HttpResponse())(RequestFactory().get(path))
    return set(answer["Content-Security-Policy"].split("; "))


@pytest.mark.parametrize("path", ["/", "/portal/", "/onboarding/bids/", "/api/v1/windows", "/login/", "/consoles/"])
def test_a_page_may_load_from_this_site_alone(path: str) -> None:
    assert policy_at(path) == STRICT


def test_the_console_and_the_api_page_are_the_only_exceptions() -> None:
    assert policy_at("/console/") - STRICT == {
        "script-src 'self' 'unsafe-eval' 'unsafe-inline'", "style-src 'self' 'unsafe-inline'",
    }  # fmt: skip
    assert policy_at("/api/docs/") - STRICT == {"style-src 'self' 'unsafe-inline'"}


def test_static_files_are_served_from_where_the_packages_keep_them(client: Client) -> None:
    found = client.get("/static/bootstrap/css/bootstrap.min.css")

    assert found.status_code == 200
    assert found["Content-Type"].startswith("text/css")
    assert len(found.content) == int(found["Content-Length"]) > 100_000


def test_a_part_of_a_static_file_is_that_part(client: Client) -> None:
    whole = client.get("/static/bootstrap/css/bootstrap.min.css").content
    part = client.get("/static/bootstrap/css/bootstrap.min.css", headers={"Range": "bytes=10-19"})

    assert (part.status_code, part.content) == (206, whole[10:20])


@pytest.mark.parametrize(
    ("line", "secret"),
    [
        ("cannot reach postgresql://app:hunter2@db.example/grove", "hunter2"),
        ("Authorization: Bearer abc.def.ghi", "abc.def.ghi"),
        ("key gx_live_ab12cd34ThisIsTheSecretPart was refused", "ThisIsTheSecretPart"),
        ("{'password': 'open sesame'}", "open"),
        ("SECRET_KEY=0123456789", "0123456789"),
        ("GET /invitation/Zk3vTq8LxW0aPmN5sYc1RdHu7Jb2EoGi9KfVtC4wQz6/ 200", "RdHu7Jb2EoGi9"),
        ("GET /password/MTI/cq1x9a-0123456789abcdef0123456789abcdef/ 200", "0123456789abcdef"),
    ],
)
def test_a_secret_does_not_reach_the_log(line: str, secret: str) -> None:
    assert secret in line
    assert secret not in without_secrets(line)


def test_what_is_no_secret_reaches_the_log_whole() -> None:
    line = "window 7 cleared: 672 awards at http://127.0.0.1:8000/portal/ for buyer@grove.example"

    assert without_secrets(line) == line


def test_a_secret_in_an_exception_is_cut_too() -> None:
    heard = io.StringIO()
    handler = logging.StreamHandler(heard)
    handler.addFilter(NoSecrets())
    logger = logging.getLogger("tests.house.secrets")
    logger.addHandler(handler)
    logger.propagate = False

    try:
        raise ValueError("postgresql://app:hunter2@db.example/grove")
    except ValueError:
        logger.exception("it failed with %s", "password=hunter2")

    assert "it failed with password=***" in heard.getvalue()
    assert "hunter2" not in heard.getvalue()


def test_the_demo_is_refused_by_the_go_live_list(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SECRET_KEY", "DATABASE_URL", "DATABASE_PRODUCT_URL", "ALLOWED_HOSTS"):
        monkeypatch.delenv(name, raising=False)

    with override_settings(DEMO=True, DEBUG=False, BROKER_URL="", CHAIN_URL="", HTTPS=False):
        refused = {each.id for each in checks.production_settings_are_given()}

    assert refused == {f"marketplace.E{number:03}" for number in (1, 3, 4, 5, 6, 7, 8, 11, 12)}


def test_a_production_that_gives_everything_passes_the_go_live_list(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SECRET_KEY", "ALLOWED_HOSTS"):
        monkeypatch.setenv(name, "given")
    monkeypatch.setenv("DATABASE_PRODUCT_URL", "postgresql://grove_app:p@db.example/market")

    given = {"BROKER_URL": "redis://b", "CHAIN_URL": "http://c", "HTTPS": True, "SIGNER_KEYFILE": False}
    with override_settings(DEMO=False, DEBUG=False, **given):
        assert checks.production_settings_are_given() == []


@pytest.mark.parametrize(
    "logins",
    [{"DATABASE_URL": "postgresql://owner:p@db.example/market"},
     {"DATABASE_URL": "postgresql://one:p@db.example/m", "DATABASE_PRODUCT_URL": "postgresql://one:p@db.example/m"},
     {"DATABASE_PRODUCT_URL": "postgresql://grove_app:p@db.example/market", "DATABASE_ROLE": "owner"}],
    ids=["owner alone", "the same twice", "as owner"],
)  # fmt: skip
def test_servers_that_log_in_as_the_owner_are_refused_by_the_go_live_list(
    monkeypatch: pytest.MonkeyPatch, logins: dict[str, str]
) -> None:
    for name in ("DATABASE_URL", "DATABASE_PRODUCT_URL", "DATABASE_ROLE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in logins.items():
        monkeypatch.setenv(name, value)

    assert "marketplace.E012" in {each.id for each in checks.production_settings_are_given()}


def test_production_is_warned_when_the_owners_login_lies_beside_the_products(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_PRODUCT_URL", "postgresql://grove_app:p@db.example/market")
    monkeypatch.delenv("DATABASE_URL", raising=False)
    assert checks.owner_stays_away_from_servers() == []

    monkeypatch.setenv("DATABASE_URL", "postgresql://owner:p@db.example/market")
    assert [each.id for each in checks.owner_stays_away_from_servers()] == ["marketplace.W002"]


def test_production_is_warned_when_letters_go_nowhere() -> None:
    with override_settings(EMAIL_HOST=""):
        assert [each.id for each in checks.letters_are_sent()] == ["marketplace.W005"]
    with override_settings(EMAIL_HOST="mail.example"):
        assert checks.letters_are_sent() == []


def test_production_is_warned_when_no_static_files_were_collected(tmp_path: Path) -> None:
    with override_settings(WHITENOISE_USE_FINDERS=False, STATIC_ROOT=tmp_path):
        assert [each.id for each in checks.static_files_are_collected()] == ["marketplace.W001"]
        (tmp_path / "unfold").mkdir()
        assert checks.static_files_are_collected() == []


def test_a_wrong_setting_is_one_sentence_and_no_traceback() -> None:
    command = [sys.executable, str(CHECKOUT / "manage.py"), "check"]
    told = subprocess.run(command, env=os.environ | {"DEBUG": "no"}, capture_output=True, text=True, check=False)

    assert told.returncode == 1
    assert told.stderr == "manage.py: DEBUG='no': use 1 or 0.\n"


@pytest.mark.django_db
def test_progress_is_a_plain_line_for_each_tenth_and_each_new_phase() -> None:
    page = io.StringIO()
    report_progress(job="old", phase="yesterday", done=1, total=2, sentence="Old news", now=NOW)

    with ProgressPrinter(page) as printer:
        for done in range(0, 101, 5):
            report_progress(job="demo", phase="world", done=done, total=100, sentence="Demands", now=NOW)
            printer.look()
            printer.look()
        report_progress(job="demo", phase="world", done=100, total=100, sentence="Demands", now=NOW, outcome="done")
        printer.look()

    lines = page.getvalue().splitlines()
    assert lines == [f"world {done}/100: Demands" for done in range(0, 101, 10)] + ["world 100/100: Demands (done)"]
