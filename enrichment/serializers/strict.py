"""The strict base class of every request body."""

from collections.abc import Iterator, Mapping
from itertools import islice
from math import inf
from typing import Any

from rest_framework import serializers
from rest_framework.settings import api_settings

from quota.serializers import QuerySerializer

MAX_UNKNOWN_FIELDS = 10  # in one answer
# Without these checks, DRF turns 5 into a text and "yes" into True.
STRICT_TYPES: dict[type[serializers.Field[Any, Any, Any, Any]], tuple[type, str]] = {
    serializers.CharField: (str, "a text"),
    serializers.BooleanField: (bool, "true or false"),
    serializers.IntegerField: (int, "a whole number"),
}


class StrictSerializer(QuerySerializer):
    """A request body: a JSON object with the declared fields, in their JSON types, and no others.

    Every request serializer inherits from it, so that a misspelt or misunderstood field is a 400 and never ignored.
    """

    def run_validation(self, data: Any = serializers.empty) -> Any:
        if data is not serializers.empty and not isinstance(data, Mapping):
            raise serializers.ValidationError(
                {api_settings.NON_FIELD_ERRORS_KEY: [f"This must be a JSON object with {self._known()}."]}
            )
        return super().run_validation(data)

    def to_internal_value(self, data: Any) -> Any:
        errors: dict[str, Any] = {}
        for name in islice((name for name in data if name not in self.fields), MAX_UNKNOWN_FIELDS):
            shown = name.encode(errors="replace").decode()  # JSON cannot hold a lone surrogate
            errors[shown] = [f"There is no such field. The fields are {self._known()}."]
        for name, field in self.fields.items():
            if name in data and (mistakes := dict(_mistyped(field, data[name]))):
                errors[name] = mistakes.get(None) or mistakes
        try:
            value = super().to_internal_value(data)
        except serializers.ValidationError as error:
            errors = {**error.detail, **errors} if isinstance(error.detail, dict) else errors
        if errors:
            raise serializers.ValidationError(errors)
        return value

    def _known(self) -> str:
        return ", ".join(f'"{name}"' for name in self.fields)


def _mistyped(field: serializers.Field[Any, Any, Any, Any], value: Any) -> Iterator[tuple[int | None, list[str]]]:
    """Values of the wrong JSON type: the index in a list, or None for the field itself, and the errors."""
    if isinstance(field, serializers.ListField) and isinstance(value, list) and len(value) <= (field.max_length or inf):
        for place, each in enumerate(value):
            for _, wanted in _mistyped(field.child, each):
                yield place, wanted
    for kind, (type_, words) in STRICT_TYPES.items():
        right = isinstance(value, type_) and (type_ is bool or not isinstance(value, bool))
        if isinstance(field, kind) and value is not None and not right:
            yield None, [f"This must be {words}."]
