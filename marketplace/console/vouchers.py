"""Grant programmes and their vouchers: proposed by one person, approved or issued by another, or withdrawn."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, time, timedelta
from typing import Any
from uuid import UUID

from django import forms
from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.views.decorators.http import require_http_methods

from ledger.grants import programme_left_micros
from marketplace import clock
from marketplace.console.acts import REFUSALS
from marketplace.console.views import render_page
from marketplace.demand.voucher_models import GrantProgramme, Voucher
from marketplace.doors import DoorForm, UsdPriceField, found_or_404, seat_of
from marketplace.errors import BadInput
from marketplace.escrow.vouchers import (
    approve_programme,
    issue_voucher,
    propose_programme,
    propose_voucher,
    unissued_micros,
    withdraw_voucher,
)
from marketplace.parties.models import BUYER_KINDS, Party
from marketplace.parties.roles import require_act

SHOWN = 50


class ProgrammeForm(forms.Form):
    """An allocation. Fields carry the names of `propose_programme`."""

    code = forms.SlugField(label="Code", max_length=40, help_text="Small letters, digits, dashes; begins each number.")
    name = forms.CharField(label="Name", max_length=120, help_text="As buyers read it, such as EuroHPC access.")
    funder = forms.CharField(label="Funder", max_length=120, help_text="Who allocates it.")
    budget_micros = UsdPriceField(label="Budget, dollars", help_text="All that its vouchers may come to together.")
    voucher_max_micros = UsdPriceField(label="Most of one voucher, dollars")
    party_max_micros = UsdPriceField(label="Most for one buyer, dollars", help_text="Over all vouchers it redeems.")


class VoucherForm(DoorForm):
    """A voucher. Fields carry the names of `propose_voucher`."""

    programme = forms.ModelChoiceField(GrantProgramme.objects.exclude(approved_at=None), label="Programme")
    amount_micros = UsdPriceField(label="Amount, dollars", help_text="For demand only; never paid out.")
    valid_until = forms.DateField(label="Valid through", widget=forms.DateInput(attrs={"type": "date"}),
                                  help_text="What is not spent by the end of that day (UTC) goes back.")  # fmt: skip
    for_party = forms.ModelChoiceField(
        Party.objects.filter(kind__in=BUYER_KINDS), label="Only for", required=False,
        help_text="Empty: whoever shows the code.",
    )  # fmt: skip

    def clean_valid_until(self) -> datetime:
        return datetime.combine(self.cleaned_data["valid_until"] + timedelta(days=1), time.min, tzinfo=UTC)


@require_http_methods(["GET", "HEAD", "POST"])
def vouchers(request: HttpRequest) -> HttpResponse:
    """Programmes and vouchers, what waits for a second person, and forms for new ones."""
    shown = {"programme": ProgrammeForm(prefix="programme"), "voucher": VoucherForm(prefix="voucher")}
    if request.method == "POST":
        act = ACTS.get(request.POST.get("act", ""))
        if act is None:
            raise Http404("no such act")
        try:
            require_act(found_or_404(seat_of(request)), "operate", "hand out grants")
            code = act(request)
        except REFUSALS as refusal:
            messages.error(request, f"{refusal} ({refusal.code})")
            return redirect("admin:vouchers")
        if not code:
            return redirect("admin:vouchers")
    else:
        code = ""
    rows = Voucher.objects.select_related("programme", "party", "for_party")
    return render_page(  # nothing but the one answer holds a code
        request, "vouchers", title="Grant vouchers", forms=shown, code=code, person=_person(request),
        programmes=[(each, programme_left_micros(each.pk), unissued_micros(each))
                    for each in GrantProgramme.objects.all()],
        waiting=rows.filter(state="PROPOSED"), rows=rows.exclude(state="PROPOSED")[:SHOWN],
    )  # fmt: skip


def _propose_programme(request: HttpRequest) -> str:
    propose_programme(**_read(ProgrammeForm(request.POST, prefix="programme")), person=_person(request),
                      now=clock.now())  # fmt: skip
    return _say(request, "Proposed. It counts once another person has approved it.")


def _approve_programme(request: HttpRequest) -> str:
    row = found_or_404(GrantProgramme.objects.filter(pk=_id(request)).first())
    approve_programme(programme=row, person=_person(request), now=clock.now())
    return _say(request, f"{row} is approved, and its budget is booked.")


def _propose_voucher(request: HttpRequest) -> str:
    propose_voucher(**_read(VoucherForm(request.POST, prefix="voucher")), person=_person(request), now=clock.now())
    return _say(request, "Proposed. Another person issues it and is shown its code.")


def _issue(request: HttpRequest) -> str:
    row, code = issue_voucher(voucher=_voucher(request), person=_person(request), now=clock.now())
    if not code:
        _say(request, f"{row} was issued before; its code was shown then.")
    return code


def _withdraw(request: HttpRequest) -> str:
    row = withdraw_voucher(voucher=_voucher(request), person=_person(request), reason=request.POST.get("reason", ""),
                           now=clock.now())  # fmt: skip
    return _say(request, f"{row} is withdrawn; its amount is the programme's again.")


ACTS: dict[str, Callable[[HttpRequest], str]] = {
    "propose_programme": _propose_programme, "approve_programme": _approve_programme,
    "propose_voucher": _propose_voucher, "issue": _issue, "withdraw": _withdraw,
}  # fmt: skip


def _read(form: forms.Form) -> dict[str, Any]:
    if not form.is_valid():
        field, errors = next(iter(form.errors.items()))
        raise BadInput(f"{form.fields[field].label}: {errors[0]}", field=field)
    return dict(form.cleaned_data)


def _say(request: HttpRequest, sentence: str) -> str:
    messages.success(request, sentence)
    return ""


def _voucher(request: HttpRequest) -> Voucher:
    return found_or_404(Voucher.objects.filter(pk=_id(request)).first())  # type: ignore[no-any-return]


def _person(request: HttpRequest) -> str:
    return str(request.user.get_username())


def _id(request: HttpRequest) -> UUID:
    try:
        return UUID(request.POST.get("id", ""))
    except ValueError:
        raise Http404("no such thing") from None
