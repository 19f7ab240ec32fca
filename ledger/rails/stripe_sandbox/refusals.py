"""Answers that refuse, in the shape in which Stripe gives them."""

from __future__ import annotations

from typing import Any


class Refused(Exception):
    """One refusal: HTTP status, Stripe's type and code, a sentence, and the parameter it is about."""

    code = "sandbox_refused"

    def __init__(
        self, status: int, sentence: str, *, kind: str = "invalid_request_error", code: str = "", param: str = ""
    ) -> None:
        super().__init__(sentence)
        self.status = status
        self.body: dict[str, Any] = {"error": {"type": kind, "message": sentence}}
        if code:
            self.body["error"]["code"] = code
        if param:
            self.body["error"]["param"] = param


def missing(kind: str, id: str) -> Refused:
    """Return the refusal for an object that does not exist."""
    return Refused(404, f"No such {kind}: '{id}'", code="resource_missing", param="id")


def whole(params: dict[str, Any], name: str, *, default: int | None = None, least: int = 1) -> int:
    """Return a parameter that must be a whole number of at least `least`."""
    text = params.get(name)
    if text is None and default is not None:
        return default
    if text is None:
        raise Refused(400, f"Missing required param: {name}.", code="parameter_missing", param=name)
    try:
        value = int(str(text))
    except ValueError:
        raise Refused(400, f"Invalid integer: {text}", code="parameter_invalid_integer", param=name) from None
    if value < least:
        raise Refused(400, f"{name} must be at least {least}.", code="parameter_invalid_integer", param=name)
    return value


def required(params: dict[str, Any], name: str) -> str:
    """Return a parameter that must be given as text."""
    value = params.get(name)
    if not isinstance(value, str) or not value:
        raise Refused(400, f"Missing required param: {name}.", code="parameter_missing", param=name)
    return value


def only_usd(params: dict[str, Any]) -> str:
    """Return the currency, which here is the dollar."""
    currency = required(params, "currency").lower()
    if currency != "usd":
        raise Refused(400, f"Invalid currency: {currency}. The sandbox knows usd only.", param="currency")
    return currency
