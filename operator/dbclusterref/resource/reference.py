"""A DatabaseClusterRef as its user wrote it, parsed once from the Kubernetes object.

The CRD's schema refuses most of what is refused here; this reader trusts it no further than it must, since a CRD can be older
than the operator, and an object older than the CRD.
"""

import re
import sys
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import lru_cache
from types import MappingProxyType
from typing import TypeVar

from dbclusterref.errors import InvalidSpec
from dbclusterref.resource.objects import GROUP, ObjectKey, ObjectMeta

E = TypeVar("E", bound=StrEnum)
H = TypeVar("H", bound=Hashable)

DEFAULT_TOKEN_KEY = "token"  # noqa: S105 - the name of a key, not a token
DEFAULT_REFRESH_INTERVAL = 60.0
MINIMUM_REFRESH_INTERVAL = 10.0
MAXIMUM_REFRESH_INTERVAL = 24 * 3600.0

# Labels and annotations by which other tools, or this one, recognise what is theirs; on our Secret they would make Argo CD or
# Flux prune it, or take it for another's.
RESERVED_PREFIXES = ("argocd.argoproj.io/", "kubectl.kubernetes.io/", "meta.helm.sh/")
RESERVED_KEYS = ("app.kubernetes.io/instance", "app.kubernetes.io/managed-by")
RESERVED_DOMAINS = ("toolkit.fluxcd.io", GROUP)

NOT_FOR_TEMPLATES = ("type", "provider")

_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_DURATION = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|h|m|s)")
# These become parts of API paths, so nothing that could lead a request elsewhere is let through.
_OBJECT_NAME = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?")
_UPSTREAM_NAME = re.compile(r"[^\s/.][^\s/]*")
_SECRET_KEY = re.compile(r"(?!\.\.|\.$)[-._a-zA-Z0-9]{1,253}")
_UNIT_SECONDS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}


NOTHING: Mapping[str, str] = MappingProxyType({})
"""One empty mapping for all who have no labels, annotations or templates of their own."""


class KeySet(StrEnum):
    """Which family of keys a Secret holds."""

    BINDING = "Binding"
    """Lower-case keys, one file each, as the Service Binding specification names them."""
    ENV = "Env"
    """Upper-case keys for `envFrom`, as the clients themselves name them."""
    FILES = "Files"
    """Whole configuration files of clients (`pg_service.conf`, `my.cnf`, `client.properties`)."""


class Endpoint(StrEnum):
    """One of the four addresses of a cluster."""

    PRIVATE = "Private"
    STANDBY = "Standby"
    PUBLIC = "Public"
    PUBLIC_STANDBY = "PublicStandby"


class DeletionPolicy(StrEnum):
    """What becomes of the Secret when the resource is deleted."""

    DELETE = "Delete"
    RETAIN = "Retain"


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenSecretRef:
    """The Secret, in the resource's own namespace, that holds the DigitalOcean API token."""

    name: str
    key: str = DEFAULT_TOKEN_KEY


@dataclass(frozen=True, slots=True, kw_only=True)
class SecretSpec:
    """How the Secret shall look."""

    name: str
    key_sets: frozenset[KeySet] = frozenset({KeySet.BINDING, KeySet.ENV})
    endpoints: frozenset[Endpoint] = frozenset({Endpoint.PRIVATE, Endpoint.STANDBY})
    mount_path: str = ""
    labels: Mapping[str, str] = field(default_factory=lambda: NOTHING)
    annotations: Mapping[str, str] = field(default_factory=lambda: NOTHING)
    deletion_policy: DeletionPolicy = DeletionPolicy.DELETE
    template: Mapping[str, str] = field(default_factory=lambda: NOTHING)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """A DatabaseClusterRef's wishes. `refresh_interval` is in seconds, at least MINIMUM_REFRESH_INTERVAL."""

    identity: ObjectMeta
    cluster_uuid: str
    token_secret: TokenSecretRef | None = None
    refresh_interval: float = DEFAULT_REFRESH_INTERVAL
    suspend: bool = False
    user: str = ""
    database: str = ""
    pool: str = ""
    secret: SecretSpec

    @property
    def key(self) -> ObjectKey:
        """The resource's namespace and name."""
        return self.identity.key

    @property
    def secret_key(self) -> ObjectKey:
        """The Secret's namespace and name."""
        return self.key if self.secret.name == self.key.name else ObjectKey(self.key.namespace, self.secret.name)

    @classmethod
    def from_body(cls, body: Mapping[str, object], *, identity: ObjectMeta | None = None) -> "Reference":
        """Read a whole object, its identity unless that is known already.

        Raises InvalidSpec, naming the field and what is allowed there.
        """
        identity = identity or ObjectMeta.from_body(body)
        spec = _Fields(body.get("spec"), path="spec")
        token = spec.nested("apiTokenSecretRef")
        user, database, pool = (_upstream_name(spec.text(name), path=f"spec.{name}") for name in ("user", "database", "pool"))
        if database and pool:
            raise InvalidSpec("spec.database and spec.pool exclude each other: a pool has its own database; remove one.")
        return cls(
            identity=identity,
            cluster_uuid=_cluster_uuid(spec.text("clusterUUID")),
            token_secret=TokenSecretRef(
                name=_object_name(token.required("name"), path="spec.apiTokenSecretRef.name"),
                key=token.text("key") or DEFAULT_TOKEN_KEY,
            )
            if token
            else None,
            refresh_interval=parse_duration(spec.text("refreshInterval") or "1m", field_name="spec.refreshInterval"),
            suspend=spec.flag("suspend"),
            user=user,
            database=database,
            pool=pool,
            secret=_secret_spec(spec.nested("secret"), default_name=identity.key.name),
        )


@lru_cache(maxsize=64)
def parse_duration(text: str, *, field_name: str) -> float:
    """Read a Kubernetes duration (`90s`, `1m30s`, `1h`) as seconds.

    Raises InvalidSpec for what is no duration, for less than MINIMUM_REFRESH_INTERVAL (a token's budget is shared) and for
    more than MAXIMUM_REFRESH_INTERVAL.
    """
    parts = _DURATION.findall(text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        raise InvalidSpec(f"{field_name} is not a duration: write for example 30s, 1m or 1h30m.")
    seconds = sum(float(number) * _UNIT_SECONDS[unit] for number, unit in parts)
    if seconds < MINIMUM_REFRESH_INTERVAL:
        raise InvalidSpec(f"{field_name} is {text}; the least is {MINIMUM_REFRESH_INTERVAL:.0f}s.")
    if seconds > MAXIMUM_REFRESH_INTERVAL:
        raise InvalidSpec(f"{field_name} is more than {MAXIMUM_REFRESH_INTERVAL / 3600:.0f}h, the most there is.")
    return seconds


def is_reserved(key: str) -> bool:
    """Tells whether a label or annotation key belongs to a tool and may not be set on our Secret."""
    domain, slash, _ = key.partition("/")
    reserved_domain = slash == "/" and any(f".{domain}".endswith(f".{name}") for name in RESERVED_DOMAINS)
    return key in RESERVED_KEYS or key.startswith(RESERVED_PREFIXES) or reserved_domain


@lru_cache(maxsize=64)
def one_copy(value: H) -> H:
    """Gives equal values as one object: of choices and CAs there are few, and ten thousand resources bring them."""
    return value


def _object_name(text: str, *, path: str) -> str:
    if not _OBJECT_NAME.fullmatch(text):
        raise InvalidSpec(f"{path} is no name that a Secret can have: lower-case letters, digits, '-' and '.', at most 253.")
    return text


def _upstream_name(text: str, *, path: str) -> str:
    if text and not _UPSTREAM_NAME.fullmatch(text):
        raise InvalidSpec(f"{path} is no name that DigitalOcean gives: no '/', no white space, and no '.' at the beginning.")
    return text


def _cluster_uuid(text: str) -> str:
    if not _UUID.fullmatch(text):
        raise InvalidSpec(
            "spec.clusterUUID is not a lower-case UUID such as 9cc10173-e9ea-4176-9dbc-a4cee4c4ff30; "
            "`doctl databases list` shows them."
        )
    return sys.intern(text)


def _secret_spec(fields: "_Fields | None", *, default_name: str) -> SecretSpec:
    if fields is None:
        return SecretSpec(name=default_name)
    template = fields.texts("template")
    for key in template:
        if key in NOT_FOR_TEMPLATES:
            raise InvalidSpec(
                f"spec.secret.template may not replace {key}: Service Binding readers recognise the Secret by it."
            )
        if not _SECRET_KEY.fullmatch(key):
            raise InvalidSpec("spec.secret.template has a key that no Secret can have: use letters, digits, '-', '_' and '.'.")
    default = SecretSpec(name=default_name)
    key_sets = fields.choices("keySets", KeySet) or default.key_sets
    if KeySet.FILES in key_sets and not fields.text("mountPath"):
        raise InvalidSpec("spec.secret.keySets names Files, which point at ca.crt: set spec.secret.mountPath as well.")
    return SecretSpec(
        name=_object_name(fields.text("name") or default_name, path="spec.secret.name"),
        key_sets=key_sets,
        endpoints=fields.choices("endpoints", Endpoint) or default.endpoints,
        mount_path=fields.text("mountPath"),
        labels=_not_reserved(fields.texts("labels"), path="spec.secret.labels"),
        annotations=_not_reserved(fields.texts("annotations"), path="spec.secret.annotations"),
        deletion_policy=fields.choice("deletionPolicy", DeletionPolicy) or default.deletion_policy,
        template=template,
    )


def _not_reserved(texts: Mapping[str, str], *, path: str) -> Mapping[str, str]:
    for key in texts:
        if is_reserved(key):
            raise InvalidSpec(f"{path}: {key} belongs to another tool or to this operator; remove it.")
    return texts


class _Fields:
    """A mapping of the resource, read field by field; every complaint names the field's full path."""

    def __init__(self, value: object, *, path: str) -> None:
        if not isinstance(value, Mapping):
            raise InvalidSpec(f"{path} is not an object.")
        self._value = value
        self._path = path

    def text(self, name: str) -> str:
        value = self._value.get(name)
        if value is None:
            return ""
        if not isinstance(value, str):
            raise InvalidSpec(f"{self._path}.{name} is not a string.")
        return value

    def required(self, name: str) -> str:
        value = self.text(name)
        if not value:
            raise InvalidSpec(f"{self._path}.{name} is missing.")
        return value

    def flag(self, name: str) -> bool:
        value = self._value.get(name)
        if value is not None and not isinstance(value, bool):
            raise InvalidSpec(f"{self._path}.{name} is neither true nor false.")
        return value or False

    def nested(self, name: str) -> "_Fields | None":
        value = self._value.get(name)
        return None if value is None else _Fields(value, path=f"{self._path}.{name}")

    def texts(self, name: str) -> Mapping[str, str]:
        value = self._value.get(name) or {}
        if not isinstance(value, Mapping) or not all(isinstance(item, str) for item in value.values()):
            raise InvalidSpec(f"{self._path}.{name} is not a map of strings.")
        return dict(value) or NOTHING

    def choice(self, name: str, kind: type[E]) -> E | None:
        value = self.text(name)
        return kind(self._known(name, value, kind)) if value else None

    def choices(self, name: str, kind: type[E]) -> frozenset[E]:
        value = self._value.get(name) or []
        if not isinstance(value, Sequence) or isinstance(value, str):
            raise InvalidSpec(f"{self._path}.{name} is not a list.")
        chosen: frozenset[E] = one_copy(frozenset(kind(self._known(name, item, kind)) for item in value))
        return chosen

    def _known(self, name: str, value: object, kind: type[StrEnum]) -> str:
        if value not in [member.value for member in kind]:
            raise InvalidSpec(f"{self._path}.{name} has an unknown word; allowed are {', '.join(kind)}.")
        return str(value)
