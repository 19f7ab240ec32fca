"""The page of seats, the same at every door: who sits here, inviting, roles, switching off; and the pages of links."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import UUID

from django import forms
from django.contrib import messages
from django.contrib.auth import update_session_auth_hash
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import URLPattern, path, reverse
from django.views.decorators.cache import never_cache
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_http_methods

from marketplace.doors import (
    DoorForm,
    View,
    address_of,
    found_or_404,
    home_of,
    market_time,
    page_of,
    seat_of,
    signed_in_only,
)
from marketplace.errors import BadInput, LinkOver, MarketError
from marketplace.parties import seats
from marketplace.parties.letters import are_mailed
from marketplace.parties.models import Invitation, Party
from marketplace.parties.passwords import (
    ask_reset,
    change_password,
    find_reset,
    reset_password,
    reset_path,
)
from marketplace.parties.roles import acts_of, acts_of_role, roles_of
from marketplace.parties.sign_in import count_failure, may_try

PASSWORD = {"widget": forms.PasswordInput, "max_length": 128}
ASKS = "reset"  # counted apart from wrong passwords


DOES = {
    "seats": "gives seats", "rules": "sets spending rules", "draft": "posts demand", "approve": "approves",
    "fund": "funds", "counsel": "signs off in law", "operate": "operates", "evidence": "hands evidence in",
    "money": "chooses the bank", "keys": "makes keys", "quote": "quotes", "limits": "lets limits",
    "judge": "judges", "review": "reviews", "export": "exports",
}  # fmt: skip


class InviteForm(DoorForm):
    """Whom to invite."""

    email = forms.EmailField(label="E-mail of your colleague", max_length=120)
    role = forms.ChoiceField(label="Role", help_text="Every role reads what the organisation has.")

    def __init__(self, *args: Any, party: Party, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["role"].choices = [("", "Choose one"), *_roles(party)]


def seat_paths(door: str, only: Callable[[View], View]) -> list[URLPattern]:
    """The address of this page behind one door, which `only` guards."""
    return [path("seats/", require_http_methods(["GET", "HEAD", "POST"])(only(seat_list)), {"door": door}, "seats")]


@never_cache
def seat_list(
    request: HttpRequest, door: str, frame: Callable[[HttpRequest], dict[str, Any]] | None = None
) -> HttpResponse:
    """List the party's seats and open invitations; a POST is one act on them. A link is shown in its answer, once.

    `frame` gives what the pages of the console have around them.
    """
    request.frame = frame(request) if frame else {}  # type: ignore[attr-defined]
    if request.method != "POST":
        return _page(request, door, InviteForm(party=request.party))
    act = ACTS.get(request.POST.get("act", ""))
    if act is None:
        raise Http404("no such act")
    try:
        return act(request, door)
    except MarketError as error:
        messages.error(request, str(error), extra_tags=error.code)
        return redirect(_seats(door))


def _invite(request: HttpRequest, door: str) -> HttpResponse:
    form = InviteForm(request.POST, party=request.party)
    if not form.is_valid():
        return _page(request, door, form, status=422)
    try:
        row, secret = seats.invite(
            party=request.party, by=found_or_404(seat_of(request)), now=market_time(request),
            root=request.build_absolute_uri("/"), **form.cleaned_data,
        )  # fmt: skip
    except MarketError as error:
        form.show(error)
        return _page(request, door, form, status=422)
    link = request.build_absolute_uri(reverse("invitation", args=[secret]))
    return _page(request, door, InviteForm(party=request.party), link=link, link_for=row.email)


def _withdraw(request: HttpRequest, door: str) -> HttpResponse:
    rows = Invitation.objects.filter(party=request.party, pk=_id(request))
    row = seats.withdraw_invitation(
        invitation=found_or_404(rows.first()), by=found_or_404(seat_of(request)), now=market_time(request)
    )
    return _told(request, door, f"The invitation of {row.email} is taken back: its link leads nowhere.")


def _role(request: HttpRequest, door: str) -> HttpResponse:
    row = seats.change_role(**_of(request), role=request.POST.get("role", ""))
    return _told(request, door, f"{row.user.email} is {row.get_role_display()} now.")


def _off(request: HttpRequest, door: str) -> HttpResponse:
    row = seats.switch_off(**_of(request))
    return _told(request, door, f"{row.user.email} is signed out, and the keys that this seat made are ended.")


def _on(request: HttpRequest, door: str) -> HttpResponse:
    row = seats.switch_on(**_of(request))
    return _told(request, door, f"{row.user.email} may sign in again. Ended keys stay ended.")


def _reset(request: HttpRequest, door: str) -> HttpResponse:
    act, root = _of(request), request.build_absolute_uri("/")
    link, to = root + reset_path(**act, root=root), act["seat"].user.email
    return _page(request, door, InviteForm(party=request.party), link=link, link_for=to)


ACTS: dict[str, Callable[[HttpRequest, str], HttpResponse]] = {
    "invite": _invite, "withdraw": _withdraw, "role": _role, "off": _off, "on": _on, "reset": _reset,
}  # fmt: skip


def _of(request: HttpRequest) -> dict[str, Any]:
    row = found_or_404(seats.find_seat_of(request.party, _id(request)))
    return {"seat": row, "by": found_or_404(seat_of(request)), "now": market_time(request)}


def _id(request: HttpRequest) -> UUID:
    try:
        return UUID(request.POST.get("id", ""))
    except ValueError:
        raise Http404("no such thing") from None


def _told(request: HttpRequest, door: str, sentence: str) -> HttpResponse:
    messages.success(request, sentence)
    return redirect(_seats(door))


def _seats(door: str) -> str:
    return reverse(f"{door}:seats")


def _roles(party: Party) -> list[tuple[str, str]]:
    """The roles of the party's kind, each with what its seats do beside reading."""
    found = []
    for role in roles_of(party):
        does = [words for act, words in DOES.items() if act in acts_of_role(role, party)]
        found.append((role, f"{role.replace('_', ' ')}: {', '.join(does) or 'reads'}"))
    return found


def _page(
    request: HttpRequest, door: str, form: InviteForm, *, status: int = 200, link: str = "", link_for: str = ""
) -> HttpResponse:
    own = found_or_404(seat_of(request))
    told = {
        "page": page_of(request, seats.seats_of(request.party)), "own": own, "form": form,
        "roles": _roles(request.party),
        "invitations": seats.open_invitations(request.party, market_time(request)),
        "may_manage": "seats" in acts_of(own), "link": link, "link_for": link_for, "door_name": door,
        "are_mailed": are_mailed(), "unsent": seats.unsent_invitations(),
    }  # fmt: skip
    template = "console/seats.html" if door == "admin" else "seats.html"
    return render(request, template, request.frame | told, status=status)  # type: ignore[attr-defined]


# -- links that lead in -----------------------------------------------------------------------------------------------
class AcceptForm(DoorForm):
    """Who takes a seat."""

    name = forms.CharField(label="Your name", max_length=150)
    password = forms.CharField(label="Password", help_text="At least twelve characters.", **PASSWORD)
    again = forms.CharField(label="The same password again", **PASSWORD)

    def once(self) -> dict[str, Any]:
        """Return what was typed; two different passwords are refused beside the second."""
        given = dict(self.cleaned_data)
        if given["password"] != given.pop("again"):
            raise BadInput("The two passwords differ.", field="again")
        return given


class ResetForm(AcceptForm):
    """Another password."""

    name = None  # type: ignore[assignment]


class ChangeForm(ResetForm):
    """Another password of one's own."""

    old = forms.CharField(label="Password of now", **PASSWORD)
    field_order = ["old"]


class AskForm(DoorForm):
    """For which address."""

    email = forms.EmailField(label="E-mail", max_length=254)


@never_cache
@sensitive_post_parameters("password", "again")
@require_http_methods(["GET", "HEAD", "POST"])
def invitation(request: HttpRequest, secret: str) -> HttpResponse:
    """Take the seat of an invitation: say a name, choose a password, sign in."""
    now = market_time(request)
    try:
        row = seats.find_invitation(secret=secret, now=now)
    except LinkOver as error:
        return _over(request, error)
    form = AcceptForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        try:
            seats.accept_invitation(secret=secret, now=now, **form.once())
        except LinkOver as error:
            return _over(request, error)
        except MarketError as error:
            form.show(error)
        else:
            messages.success(request, f"The seat is yours. Sign in as {row.email}.")
            return redirect("login")
    return render(request, "account/invitation.html", {"form": form, "row": row}, status=422 if form.errors else 200)


@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
def password_forgotten(request: HttpRequest) -> HttpResponse:
    """Ask for a link to another password. What is answered is the same whether or not the address has a seat."""
    form = AskForm(request.POST or None)
    status, is_asked = 422 if form.errors else 200, False
    if request.method == "POST" and form.is_valid():
        who = {"email": form.cleaned_data["email"].lower(), "address": address_of(request), "what": ASKS}
        if may_try(**who):
            count_failure(**who)
            root = request.build_absolute_uri("/")
            ask_reset(email=who["email"], root=root, now=market_time(request))
            is_asked = True
        else:
            form.add_error(None, "Too many links were asked for. Wait a quarter of an hour, then try again.")
            status = 429
    return render(request, "account/forgotten.html", {"form": form, "is_asked": is_asked}, status=status)


@never_cache
@sensitive_post_parameters("password", "again")
@require_http_methods(["GET", "HEAD", "POST"])
def password_reset(request: HttpRequest, uid: str, token: str) -> HttpResponse:
    """Set another password by a link, then sign in."""
    form = ResetForm(request.POST or None)
    try:
        user = find_reset(uid=uid, token=token)
        if request.method == "POST" and form.is_valid():
            try:
                reset_password(uid=uid, token=token, now=market_time(request), **form.once())
            except BadInput as error:
                form.show(error)
            else:
                messages.success(request, "The password is set, and every session of before is ended. Sign in.")
                return redirect("login")
    except LinkOver as error:
        return _over(request, error)
    return render(request, "account/reset.html", {"form": form, "email": user.email},
                  status=422 if form.errors else 200)  # fmt: skip


@never_cache
@sensitive_post_parameters("old", "password", "again")
@require_http_methods(["GET", "HEAD", "POST"])
@signed_in_only
def password_change(request: HttpRequest) -> HttpResponse:
    """Change one's own password: this session goes on, every other one of the person ends."""
    form = ChangeForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        who = {"email": request.user.get_username(), "address": address_of(request)}
        try:
            if not may_try(**who):
                raise BadInput("Too many wrong passwords. Wait a quarter of an hour, then try again.", field="old")
            user = change_password(user=request.user, now=market_time(request), **form.once())
        except BadInput as error:
            if error.facts.get("field") == "old":
                count_failure(**who)
            form.show(error)
        else:
            update_session_auth_hash(request, user)
            messages.success(request, "The password is changed. Other sessions of yours are ended.")
            return redirect(home_of(request))
    return render(request, "account/password.html", {"form": form}, status=422 if form.errors else 200)


def _over(request: HttpRequest, error: LinkOver) -> HttpResponse:
    return render(request, "account/over.html", {"error": error}, status=410)
