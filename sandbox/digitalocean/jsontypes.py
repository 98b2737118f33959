"""JSON as types and as bytes."""

import json
from collections.abc import Mapping
from typing import TypeAlias

Json: TypeAlias = "bool | int | float | str | list[Json] | dict[str, Json] | None"
JsonObject: TypeAlias = dict[str, Json]
JsonMapping: TypeAlias = Mapping[str, Json]

_to_json = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


def encode(value: Json) -> bytes:
    """Compact JSON in UTF-8."""
    return _to_json(value).encode()
