"""The console's page about keyholders: who they are, which shares of which window were given, which are lost."""

from __future__ import annotations

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.views.decorators.http import require_http_methods

from marketplace import clock
from marketplace.console.acts import REFUSALS
from marketplace.console.views import render_page
from marketplace.doors import found_or_404
from marketplace.parties.roles import require_person
from marketplace.supply.holders import release_share, report_lost
from marketplace.supply.seals import OUTSIDE, THRESHOLD, KeyHolder, WindowKey, WindowShare

WINDOWS_SHOWN = 8


@require_http_methods(["GET", "HEAD", "POST"])
def keyholders(request: HttpRequest) -> HttpResponse:
    """Holders, and the shares of the newest windows; take a share after the close, or note that one is lost."""
    if request.method == "POST":
        return _act(request)
    keys = WindowKey.objects.select_related("window").order_by("-window__number")[:WINDOWS_SHOWN]
    rows = [(key, key.shares.select_related("holder_key__holder").defer("locked", "released")) for key in keys]
    return render_page(
        request, "keyholders", title="Keyholders", holders=KeyHolder.objects.prefetch_related("keys"), rows=rows,
        now=clock.now(), threshold=THRESHOLD, outside=OUTSIDE,
    )  # fmt: skip


def _act(request: HttpRequest) -> HttpResponse:
    asked, text = request.POST.get("share", ""), request.POST.get("text", "").strip()
    share = found_or_404(WindowShare.objects.filter(pk=int(asked)).first() if asked.isdecimal() else None)
    which = {"window": share.window_key.window, "holder": share.holder_key.holder, "now": clock.now()}
    try:
        require_person(request.user.get_username(), "operate", "take shares or note them lost")
        if request.POST.get("act") == "lost":
            report_lost(reason=text, **which)
            messages.success(request, "Written down. The share is erased.")
        else:
            release_share(share=bytes.fromhex(text), **which)
            messages.success(request, "The share is released.")
    except ValueError:
        messages.error(request, "A share is written in hex: digits and the letters a to f.")
    except REFUSALS as error:
        messages.error(request, f"{error} ({error.code})")
    return redirect("admin:keyholders")
