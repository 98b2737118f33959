"""Which spec a Secret was made from: a digest that is kept on the Secret, so that a restarted operator knows. Pure.

Only what differs from its default counts, so that a field that a later version adds changes no digest.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import MISSING, Field, fields, is_dataclass
from enum import StrEnum
from functools import cache

from dbclusterref.resource.reference import Reference

NOT_IN_THE_SECRET = frozenset({"identity", "refresh_interval", "suspend", "restart", "ca_config_map"})
"""Fields of a Reference that decide when it is worked on, and nothing in its Secret."""
NOT_READ = NOT_IN_THE_SECRET | {"secret"}
"""Fields that decide how an answer becomes a Secret, not what is asked upstream; of `secret` the replicas are asked for."""


def spec_digest(reference: Reference) -> str:
    """Return a digest of all that decides what the Secret holds."""
    plain = json.dumps(_plain(reference, without=NOT_IN_THE_SECRET), sort_keys=True)
    return hashlib.blake2b(plain.encode(), digest_size=8).hexdigest()


def same_reads(one: Reference, other: Reference) -> bool:
    """Return whether an answer read for one reference is an answer for the other, too."""
    names = [item.name for item in fields(one) if item.name not in NOT_READ]
    same = all(getattr(one, name) == getattr(other, name) for name in names)
    return same and one.wants_replicas == other.wants_replicas


def _plain(value: object, *, without: frozenset[str] = frozenset()) -> object:
    if is_dataclass(value) and not isinstance(value, type):
        shown = ((name, getattr(value, name), default) for name, default in _defaults(type(value)) if name not in without)
        return {name: _plain(member) for name, member, default in shown if member != default}
    if isinstance(value, frozenset):
        return sorted(str(item) for item in value)
    if isinstance(value, Mapping):
        return dict(value.items())
    return str(value) if isinstance(value, StrEnum) else value


@cache
def _defaults(kind: type) -> tuple[tuple[str, object], ...]:
    """Return the names of a dataclass's fields, each with what it has where the spec says nothing."""
    return tuple((item.name, _default(item)) for item in fields(kind))


def _default(item: "Field[object]") -> object:
    return item.default_factory() if item.default_factory is not MISSING else item.default
