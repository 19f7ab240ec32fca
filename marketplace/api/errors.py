"""Refusals of the API itself, before any service is asked.

ApiError                        code                       when
  +- BadRequest                 bad_request                the request cannot be read as HTTP
  |   +- MalformedJson          malformed_json             the body is no JSON (RFC 8259), or says one name twice
  |   +- BodyMissing            body_missing               the act needs a JSON object and there is none
  |   +- IdempotencyKeyMissing  idempotency_key_missing    a POST without an Idempotency-Key
  |   +- IdempotencyKeyBad      idempotency_key_malformed  a key that is not 1 to 120 printable ASCII characters
  |   +- BadParameter           bad_parameter              a query parameter that is unknown, repeated or malformed
  |   +- UnreadableText         unreadable_text            a text holds NUL or half a surrogate pair
  +- NotSignedIn                not_authenticated          neither a key nor a session
  +- Forbidden                  forbidden                  this seat or key may not do that
  |   +- ReadOnlyKey            read_only_key              a key without the right to write
  |   +- CsrfFailed             csrf_failed                a session's POST without its CSRF token
  +- NoSuchPage                 not_found                  no such address, or somebody else's object
  +- WrongMethod                method_not_allowed         this address does not know the method
  +- Conflict                   conflict                   two requests met; the same request may be sent again
  +- BodyTooLarge               body_too_large             more than 64 KiB
  +- WrongMediaType             unsupported_media_type     the body is not application/json
  +- InvalidBody                invalid_body               fields are wrong; `errors` names each
  +- TooMany                    too_many_requests          the rate is used up; Retry-After says for how long
  +- Internal                   internal_error             our fault; nothing was written
  +- Busy                       busy                       the database is busy; the same request may be sent again
"""

from __future__ import annotations

from marketplace.errors import MarketError


class ApiError(MarketError):
    """A refusal of the API. `errors` holds (JSON pointer, code, sentence) per wrong field."""

    code = "api_error"
    errors: tuple[tuple[str, str, str], ...] = ()


class BadRequest(ApiError):
    code = "bad_request"


class MalformedJson(BadRequest):
    code = "malformed_json"


class BodyMissing(BadRequest):
    code = "body_missing"


class IdempotencyKeyMissing(BadRequest):
    code = "idempotency_key_missing"


class IdempotencyKeyBad(BadRequest):
    code = "idempotency_key_malformed"


class BadParameter(BadRequest):
    code = "bad_parameter"


class UnreadableText(BadRequest):
    """`pointer` leads to the text in a JSON body."""

    code = "unreadable_text"

    def __init__(self, sentence: str, *, pointer: str | None = None, **facts: str) -> None:
        super().__init__(sentence, **facts)
        if pointer is not None:
            self.errors = ((pointer, self.code, sentence),)


class NotSignedIn(ApiError):
    code = "not_authenticated"


class Forbidden(ApiError):
    code = "forbidden"


class ReadOnlyKey(Forbidden):
    code = "read_only_key"


class CsrfFailed(Forbidden):
    code = "csrf_failed"


class NoSuchPage(ApiError):
    code = "not_found"


class WrongMethod(ApiError):
    code = "method_not_allowed"


class Conflict(ApiError):
    code = "conflict"


class BodyTooLarge(ApiError):
    code = "body_too_large"


class WrongMediaType(ApiError):
    code = "unsupported_media_type"


class InvalidBody(ApiError):
    """Several fields may be wrong at once. With one kind of mistake the problem's code is that of the field."""

    code = "invalid_body"

    def __init__(self, errors: list[tuple[str, str, str]]) -> None:
        codes = {code for _, code, _ in errors}
        super().__init__(errors[0][2] if len(errors) == 1 else f"{len(errors)} fields are wrong.")
        self.errors = tuple(errors)
        self.code = codes.pop() if len(codes) == 1 else InvalidBody.code


class TooMany(ApiError):
    code = "too_many_requests"


class Internal(ApiError):
    code = "internal_error"


class Busy(ApiError):
    code = "busy"


# What a field of a body can be; the codes of `errors[]` beside those of the services.
FIELD_CODES = {
    "required": "the field is missing",
    "null": "the field may not be null",
    "unknown_field": "the body has a field that this act does not know",
    "number_format": "a number is not a whole number within 64 bits, as a JSON integer or a string of digits",
    "bad_flag": "something else than true or false",
    "bad_text": "a text has another type or is too long",
    "bad_list": "a list has another type, is empty or too long",
    "bad_id": "an id has not the form prefix_ and 32 hex digits",
    "bad_object": "the body or a part of it is not an object",
    "too_deep": "the body is nested deeper than 8 levels",
}
