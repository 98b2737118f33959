"""Reading the control surface's JSON: a table of members, each with the parser of its value.

Unknown members and wrong types are refused by name, so that a test's typing error does not pass for a scenario.
"""

from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import TypeAlias, TypeVar

from sandbox.digitalocean.jsontypes import Json, JsonMapping, JsonObject

T = TypeVar("T")
ChoiceT = TypeVar("ChoiceT", bound=StrEnum)
Parser: TypeAlias = Callable[[str, Json], T]
"""Takes a member's name and value; raises `BadRequestError` for a value of another type."""


class BadRequestError(ValueError):
    """A request that cannot be obeyed; the message says which member is wrong and what it takes."""


def parse_members(
    body: JsonMapping, *, takes: Mapping[str, Parser[object]], required: tuple[str, ...] = ()
) -> dict[str, object]:
    """Parse each member by its entry in the table."""
    unknown = sorted(set(body) - set(takes))
    if unknown:
        raise BadRequestError(f"unknown member {unknown[0]!r}; there are: {', '.join(sorted(takes))}")
    for name in required:
        if name not in body:
            raise BadRequestError(f"{name} is required")
    return {name: takes[name](name, value) for name, value in body.items()}


def text(name: str, value: Json) -> str:
    """A string."""
    if not isinstance(value, str):
        raise BadRequestError(f"{name} takes a string")
    return value


def whole(name: str, value: Json) -> int:
    """An integer of at least 0."""
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise BadRequestError(f"{name} takes an integer of at least 0")
    return value


def number(name: str, value: Json) -> float:
    """A number of at least 0."""
    if not isinstance(value, int | float) or isinstance(value, bool) or value < 0:
        raise BadRequestError(f"{name} takes a number of at least 0")
    return float(value)


def flag(name: str, value: Json) -> bool:
    """A boolean."""
    if not isinstance(value, bool):
        raise BadRequestError(f"{name} takes a boolean")
    return value


def texts(name: str, value: Json) -> tuple[str, ...]:
    """A list of strings."""
    if not isinstance(value, list):
        raise BadRequestError(f"{name} takes a list of strings")
    return tuple(text(name, item) for item in value)


def members(name: str, value: Json) -> JsonObject:
    """An object."""
    if not isinstance(value, dict):
        raise BadRequestError(f"{name} takes an object")
    return value


def headers(name: str, value: Json) -> dict[str, str]:
    """An object of strings."""
    return {key: text(f"{name}.{key}", item) for key, item in members(name, value).items()}


def anything(_name: str, value: Json) -> Json:
    """Any JSON."""
    return value


def one_of(options: type[ChoiceT]) -> Parser[ChoiceT]:
    """One value of an enumeration."""

    def parse(name: str, value: Json) -> ChoiceT:
        try:
            return options(text(name, value))
        except ValueError:
            raise BadRequestError(f"{name} takes one of: {', '.join(options)}") from None

    return parse


def maybe(parse: Parser[T]) -> Parser[T | None]:
    """What the parser takes, or null."""

    def parse_or_none(name: str, value: Json) -> T | None:
        return None if value is None else parse(name, value)

    return parse_or_none
