"""What every request's body has in common."""

from collections.abc import Iterator, Mapping
from itertools import islice
from math import inf
from typing import Any

from rest_framework import serializers
from rest_framework.settings import api_settings

from quota.serializers import QuerySerializer

MAX_UNKNOWN_FIELDS = 10  # that one answer names
# DRF makes a text of 5, and True of "yes".
STRICT_TYPES: dict[type[serializers.Field[Any, Any, Any, Any]], tuple[type, str]] = {
    serializers.CharField: (str, "a text"),
    serializers.BooleanField: (bool, "true or false"),
    serializers.IntegerField: (int, "a whole number"),
}


class StrictSerializer(QuerySerializer):
    """The body of a request: an object that has the declared fields, in their JSON types, and no others.

    Every request serializer derives from it, so that a misspelt or misunderstood field is a 400 and never passed over.
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
            shown = name.encode(errors="replace").decode()  # a lone surrogate cannot go into an answer
            errors[shown] = [f"There is no such field; there is {self._known()}."]
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
    """What is not of its field's JSON type: the place in a list, None for the value itself, and what is wanted."""
    if isinstance(field, serializers.ListField) and isinstance(value, list) and len(value) <= (field.max_length or inf):
        for place, each in enumerate(value):
            for _, wanted in _mistyped(field.child, each):
                yield place, wanted
    for kind, (type_, words) in STRICT_TYPES.items():
        right = isinstance(value, type_) and (type_ is bool or not isinstance(value, bool))
        if isinstance(field, kind) and value is not None and not right:
            yield None, [f"This must be {words}."]
