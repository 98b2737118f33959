"""Where the CA is kept as a ConfigMap, and what came of it: `spec.caConfigMap` and `status.caConfigMap`. Pure."""

from dataclasses import dataclass
from enum import StrEnum

from dbclusterref.resource.objects import as_mapping, is_object_name


class CaConfigMapState(StrEnum):
    """What is known of the ConfigMap."""

    CURRENT = "Current"
    PENDING = "Pending"
    NO_CA = "NoCA"
    CONFLICT = "Conflict"
    FORBIDDEN = "Forbidden"
    FAILED = "Failed"
    DISABLED = "Disabled"


CA_CONFIG_MAP_PROBLEMS = frozenset(
    {CaConfigMapState.CONFLICT, CaConfigMapState.FORBIDDEN, CaConfigMapState.FAILED, CaConfigMapState.DISABLED}
)
"""States that somebody should look at."""

_STATES = {str(state): state for state in CaConfigMapState}


@dataclass(frozen=True, slots=True, kw_only=True)
class CaConfigMap:
    """The ConfigMap in the status: the `name` it was last written under, or is to be; `message` says what is in the way."""

    name: str
    state: CaConfigMapState
    message: str = ""

    def to_body(self) -> dict[str, object]:
        """Write it as the API spells it."""
        return {"name": self.name, "state": str(self.state), **({"message": self.message} if self.message else {})}


def read_ca_config_map(value: object) -> CaConfigMap | None:
    """Read `status.caConfigMap`; what cannot be read counts as never written."""
    found = as_mapping(value)
    name, state, message = found.get("name"), _STATES.get(str(found.get("state"))), found.get("message", "")
    if not is_object_name(name) or not isinstance(message, str) or state is None:
        return None
    return CaConfigMap(name=name, state=state, message=message)
