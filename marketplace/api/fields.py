"""Fields of bodies: ids with a prefix, whole numbers, money as text, instants in UTC. Nothing is coerced."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime
from typing import Any, TypeVar
from uuid import UUID

from django.utils.dateparse import parse_datetime
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers
from rest_framework.fields import empty

from marketplace.api.errors import InvalidBody
from marketplace.years import OUTSIDE_WORDS, YEARS
from pricing.targets import MENU, TARGETS

ID_SHAPE = re.compile(r"[a-z]{3}_[0-9a-f]{32}")
DIGITS = re.compile(r"-?[0-9]{1,19}")
DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
MONTH = re.compile(r"[0-9]{4}-(0[1-9]|1[0-2])")
D = TypeVar("D", bound=date)
INT64 = range(-(2**63), 2**63)
WHOLE = {"type": "string", "pattern": "^-?[0-9]{1,19}$"}


def _within_years(day: D, code: str) -> D:
    if day.year not in YEARS:
        raise serializers.ValidationError(OUTSIDE_WORDS, code=code)
    return day


def id_text(prefix: str, key: UUID | None) -> str | None:
    """Return an id as the API writes it, such as `dem_` and 32 hex digits."""
    return None if key is None else f"{prefix}_{key.hex}"


def id_schema(prefix: str) -> dict[str, Any]:
    """Return the OpenAPI schema of an id."""
    return {"type": "string", "pattern": f"^{prefix}_[0-9a-f]{{32}}$", "example": f"{prefix}_" + "0" * 32}


class IdField(serializers.Field):
    """An id with its prefix. Reads `prefix_` and 32 hex digits as a UUID."""

    default_error_messages = {"bad_id": "An id is {prefix}_ and 32 hex digits."}

    def __init__(self, prefix: str, **options: Any) -> None:
        self.prefix = prefix
        super().__init__(**options)
        self._spectacular_annotation = {"field": id_schema(prefix)}

    def to_internal_value(self, data: Any) -> UUID:
        if not isinstance(data, str) or not ID_SHAPE.fullmatch(data) or not data.startswith(f"{self.prefix}_"):
            self.fail("bad_id", prefix=self.prefix)
        return UUID(data[4:])

    def to_representation(self, value: Any) -> str | None:
        return id_text(self.prefix, value if isinstance(value, UUID) or value is None else value.pk)


@extend_schema_field({"oneOf": [{"type": "integer", "format": "int64"}, WHOLE]})
class WholeIn(serializers.Field):
    """A whole number of 64 bits, as a JSON integer or a string of digits. A float or a boolean is `number_format`."""

    default_error_messages = {
        "number_format": "Write a whole number within 64 bits, as a JSON integer or a string of digits."
    }

    def to_internal_value(self, data: Any) -> int:
        if isinstance(data, str) and DIGITS.fullmatch(data):
            data = int(data)
        if isinstance(data, bool) or not isinstance(data, int) or data not in INT64:
            self.fail("number_format")
        return data

    def to_representation(self, value: Any) -> Any:
        return value


class TextIn(serializers.Field):
    """A text of at most `length_max` characters; numbers are not turned into texts."""

    default_error_messages = {"bad_text": "Write a text of at most {length_max} characters."}

    def __init__(self, length_max: int, **options: Any) -> None:
        self.length_max = length_max
        super().__init__(**options)
        self._spectacular_annotation = {"field": {"type": "string", "maxLength": length_max}}

    def to_internal_value(self, data: Any) -> str:
        if not isinstance(data, str) or len(data) > self.length_max:
            self.fail("bad_text", length_max=self.length_max)
        return data

    def to_representation(self, value: Any) -> Any:
        return value


@extend_schema_field({"type": "boolean"})
class FlagIn(serializers.Field):
    """True or false; texts and numbers are not turned into either."""

    default_error_messages = {"bad_flag": "Write true or false."}

    def to_internal_value(self, data: Any) -> bool:
        if not isinstance(data, bool):
            self.fail("bad_flag")
        return bool(data)

    def to_representation(self, value: Any) -> Any:
        return value


@extend_schema_field({"type": "string", "format": "date-time"})
class MomentIn(serializers.Field):
    """A moment with its zone, as RFC 3339 writes it."""

    default_error_messages = {"bad_time": "Write a moment with its zone, such as 2027-01-31T12:00:00Z."}

    def to_internal_value(self, data: Any) -> datetime:
        try:
            moment = parse_datetime(data) if isinstance(data, str) and len(data) <= 40 else None
            if moment is not None and moment.tzinfo is not None:
                return _within_years(moment.astimezone(UTC), "bad_time")
        except (ValueError, OverflowError):  # well-formed, and on no calendar
            pass
        self.fail("bad_time")

    def to_representation(self, value: Any) -> Any:
        return value


@extend_schema_field({"type": "string", "format": "date"})
class DayIn(serializers.Field):
    """A calendar day such as 2027-01-31."""

    default_error_messages = {"bad_day": "Write a day such as 2027-01-31."}

    def to_internal_value(self, data: Any) -> date:
        try:
            if isinstance(data, str) and DAY.fullmatch(data):
                return _within_years(date.fromisoformat(data), "bad_day")
        except ValueError:  # well-formed, and on no calendar
            pass
        self.fail("bad_day")

    def to_representation(self, value: Any) -> Any:
        return value


@extend_schema_field({"type": "string", "pattern": "^[0-9]{4}-(0[1-9]|1[0-2])$"})
class MonthIn(serializers.Field):
    """A calendar month such as 2027-01; read as its first day."""

    default_error_messages = {"bad_month": "Write a month such as 2027-01."}

    def to_internal_value(self, data: Any) -> date:
        if not isinstance(data, str) or not MONTH.fullmatch(data) or data[:4] == "0000":
            self.fail("bad_month")
        return _within_years(date(int(data[:4]), int(data[5:]), 1), "bad_month")

    def to_representation(self, value: Any) -> Any:
        return value


class TextsIn(serializers.ListField):
    """A list of 1 to 50 texts."""

    child = TextIn(40)
    default_error_messages = {
        "not_a_list": "Write a list of texts.", "empty": "Name at least one.", "max_length": "At most 50."
    }

    def __init__(self, **options: Any) -> None:
        super().__init__(allow_empty=False, max_length=50, **options)


TARGETS_SCHEMA = {
    "type": "object", "additionalProperties": False,
    "properties": {target.name: {"type": "integer", "enum": list(target.menu)} for target in MENU},
}


@extend_schema_field(TARGETS_SCHEMA)
class TargetsIn(serializers.Field):
    """Typed SLA targets: an object of names and whole numbers. Which there are is said by the service."""

    default_error_messages = {"bad_object": "Write an object of targets and their bounds, whole numbers."}

    def to_internal_value(self, data: Any) -> dict[str, int]:
        if not isinstance(data, dict) or len(data) > len(TARGETS):
            self.fail("bad_object")
        if any(isinstance(bound, bool) or not isinstance(bound, int) or bound not in INT64 for bound in data.values()):
            self.fail("bad_object")
        return data

    def to_representation(self, value: Any) -> Any:
        return value


class Body(serializers.Serializer):
    """A body that is read: every unknown field is refused, and all mistakes are told at once."""

    def read(self) -> dict[str, Any]:
        """Return the validated fields. Raises InvalidBody with a JSON pointer per mistake."""
        wrong = [
            (f"/{_pointed(name)}", "unknown_field", "There is no such field.")
            for name in self.initial_data
            if name not in self.fields
        ]
        if not self.is_valid():
            wrong += list(_pointers(self.errors, ""))
        if wrong:
            raise InvalidBody(wrong)
        return dict(self.validated_data)


class NoBody(Body):
    """The body of an act that takes nothing: empty, or `{}`."""


class PageFrame(serializers.Serializer):
    """One page of a list that says more around its rows; a subclass adds `data`."""

    next_cursor = serializers.CharField(allow_null=True, help_text="null: there is no more")


FIELD_CODE_OF = {"not_a_list": "bad_list", "empty": "bad_list", "max_length": "bad_list", "invalid": "bad_object"}


def _pointers(errors: Any, pointer: str) -> Any:
    parts = errors.items() if isinstance(errors, dict) else enumerate(errors)
    for name, found in parts:
        if isinstance(found, dict):
            yield from _pointers(found, f"{pointer}/{_pointed(str(name))}")
        elif isinstance(found, list):
            for detail in found:
                yield (f"{pointer}/{_pointed(str(name))}", FIELD_CODE_OF.get(detail.code, detail.code), str(detail))
        else:
            yield pointer, FIELD_CODE_OF.get(found.code, found.code), str(found)


def _pointed(name: str) -> str:
    return name.replace("~", "~0").replace("/", "~1")


@extend_schema_field({"type": "integer", "description": "unix milliseconds"})
class UnixMs(serializers.Field):
    """An instant as signed statements write it: unix milliseconds."""

    def __init__(self, **options: Any) -> None:
        super().__init__(read_only=True, **options)

    def to_representation(self, value: Any) -> int:
        return int(value.timestamp() * 1000)


@extend_schema_field({**WHOLE, "description": "micro-USD, a whole number as a string"})
class Micros(serializers.Field):
    """Money or a price in micro-USD: a string, because 64 bits pass what JSON readers keep exactly."""

    def __init__(self, **options: Any) -> None:
        super().__init__(read_only=True, **options)

    def to_representation(self, value: Any) -> str:
        return str(int(value))


@extend_schema_field({"type": "array", "items": {"oneOf": [WHOLE, {"type": "null"}]}})
class MicrosList(serializers.Field):
    """One price per hourly slot in micro-USD per unit-hour; null where nothing traded."""

    def __init__(self, **options: Any) -> None:
        super().__init__(read_only=True, **options)

    def to_representation(self, value: Any) -> list[str | None]:
        return [None if price is None else str(int(price)) for price in value]


@extend_schema_field({"type": "string", "pattern": "^[0-9a-f]*$", "description": "bytes in hex"})
class HexOut(serializers.Field):
    """Bytes in hex."""

    def __init__(self, **options: Any) -> None:
        super().__init__(read_only=True, **options)

    def to_representation(self, value: Any) -> str:
        return bytes(value).hex()


class IdOut(IdField):
    """An id that is only written."""

    def __init__(self, prefix: str, **options: Any) -> None:
        super().__init__(prefix, read_only=True, **options)

    def get_attribute(self, instance: Any) -> Any:
        value = super().get_attribute(instance)
        return value if value is not empty else None
