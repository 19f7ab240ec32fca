"""JSON bodies read strictly: what two readers could understand differently is refused, never guessed."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

from rest_framework.request import Request

from marketplace.api.errors import BodyMissing, BodyTooLarge, InvalidBody, MalformedJson, WrongMediaType
from marketplace.readable import refuse_unreadable

BODY_BYTES_MAX = 64 * 1024
DEPTH_MAX = 8
DIGITS_MAX = 19  # 2^63 - 1 has 19
JSON_TYPE = re.compile(r"application/json\s*(;\s*charset\s*=\s*\"?utf-8\"?\s*)?", re.IGNORECASE)


@dataclass(frozen=True)
class NotWhole:
    """A JSON number that is not a whole number of at most 19 digits, kept so that its field can be named."""

    text: str


def require_json_type(request: Request) -> None:
    """Refuse a body of another type before anything of it is read. A POST without a body needs no type."""
    given = request.META.get("CONTENT_TYPE", "")
    has_body = request.META.get("CONTENT_LENGTH") not in (None, "", "0") or "HTTP_TRANSFER_ENCODING" in request.META
    is_form = given.startswith(("multipart/", "application/x-www-form-urlencoded"))  # the CSRF check would read it
    if (has_body or is_form) and not JSON_TYPE.fullmatch(given):
        raise WrongMediaType("Send the body as application/json in UTF-8.", content_type=given[:80])


def read_raw(request: Request, bytes_max: int = BODY_BYTES_MAX) -> bytes:
    """Return the bytes of the body. Raises BodyTooLarge above `bytes_max`, 64 KiB, having read no more than that."""
    length = request.META.get("CONTENT_LENGTH") or "0"
    if length.isascii() and length.isdigit() and int(length[:12]) > bytes_max:
        raise BodyTooLarge(f"The body is larger than {bytes_max >> 10} KiB.", bytes_max=bytes_max)
    raw = request._request.read(bytes_max + 1)
    if len(raw) > bytes_max:
        raise BodyTooLarge(f"The body is larger than {bytes_max >> 10} KiB.", bytes_max=bytes_max)
    return bytes(raw)


def parse_object(raw: bytes, *, may_be_empty: bool = False) -> dict[str, Any]:
    """Return the JSON object in `raw`; an empty body is one without fields where `may_be_empty`.

    Raises MalformedJson, BodyMissing, UnreadableText or InvalidBody. Numbers with a point, an exponent or too many
    digits come back as NotWhole, so that the field they stand in can be named.
    """
    if not raw.strip():
        if may_be_empty:
            return {}
        raise BodyMissing("The body is empty; send a JSON object.")
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise MalformedJson("The body is not UTF-8.", at_byte=error.start) from None
    if _depth(text) > DEPTH_MAX:
        raise InvalidBody([("", "too_deep", f"The body is nested deeper than {DEPTH_MAX} levels.")])
    try:
        found = json.loads(
            text, parse_float=NotWhole, parse_int=_whole, parse_constant=_refuse_constant,
            object_pairs_hook=_object_without_twins,
        )  # fmt: skip
    except json.JSONDecodeError as error:
        where = {"line": error.lineno, "column": error.colno}
        raise MalformedJson(f"The body is no JSON: {error.msg.lower()}.", **where) from None
    if not isinstance(found, dict):
        raise InvalidBody([("", "bad_object", "The body is a JSON object.")])
    refuse_unreadable(found)
    return found


def _depth(text: str) -> int:
    """Return how deep brackets nest, strings left out; counted by hand, because the parser would recurse."""
    if text.count("[") + text.count("{") <= DEPTH_MAX:
        return 0
    depth = deepest = 0
    inside = escaped = False
    for sign in text:
        if inside:
            inside, escaped = (True, False) if escaped else (sign != '"', sign == "\\")
        elif sign == '"':
            inside = True
        elif sign in "[{":
            depth += 1
            deepest = max(deepest, depth)
        elif sign in "]}":
            depth -= 1
    return deepest


def _whole(digits: str) -> int | NotWhole:
    return int(digits) if len(digits.lstrip("-")) <= DIGITS_MAX else NotWhole(digits[:40])


def _refuse_constant(word: str) -> None:
    raise MalformedJson(f"The body is no JSON: {word} is no number of it.")


def _object_without_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        twin = next(name for name in names if names.count(name) > 1)
        raise MalformedJson("The body says one name twice.", name=twin[:60].encode(errors="replace").decode())
    return found
