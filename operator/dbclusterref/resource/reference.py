"""A DatabaseClusterRef as its user wrote it, parsed once from the Kubernetes object.

The CRD's schema refuses most of what is refused here. This reader does not rely on it: a CRD can be older than the operator,
and an object older than the CRD.
"""

import re
import sys
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import lru_cache
from types import MappingProxyType
from typing import TypeVar

import msgspec

from dbclusterref.compact import CompactTexts
from dbclusterref.errors import InvalidSpec
from dbclusterref.resource.duration import parse_duration
from dbclusterref.resource.objects import GROUP, ObjectKey, ObjectMeta, is_object_name
from dbclusterref.resource.restart import Workload, WorkloadFields, read_workloads
from dbclusterref.resource.template import faults_in_all, known_placeholders

E = TypeVar("E", bound=StrEnum)
H = TypeVar("H", bound=Hashable)

DEFAULT_TOKEN_KEY = "token"  # noqa: S105 - the name of a key, not a token
DEFAULT_PASSWORD_KEY = "password"  # noqa: S105 - the name of a key, not a password
DEFAULT_REFRESH_INTERVAL = "1m"

MAXIMUM_TEXTS = 16 * 1024
"""Bytes of UTF-8 in all keys and values of one map of the spec. It bounds what one resource costs in memory."""
_KEPT_AS_THEY_ARE = 1024
"""Bytes. Larger maps are kept compressed."""

# Labels and annotations by which other tools, or this operator, recognise their own objects. On our Secret they would make a
# pruner (Argo CD, Flux, Helm, kubectl's ApplySets, kapp, Rancher, cli-utils) delete it, or a copier (replicator, reflector) put
# its credentials elsewhere or overwrite them.
RESERVED_DOMAINS = (
    "argocd.argoproj.io",
    "kubectl.kubernetes.io",
    "applyset.kubernetes.io",
    "meta.helm.sh",
    "toolkit.fluxcd.io",
    "kapp.k14s.io",
    "objectset.rio.cattle.io",
    "cli-utils.sigs.k8s.io",
    "config.k8s.io",
    "replicator.v1.mittwald.de",
    "reflector.v1.k8s.emberstack.com",
    GROUP,
)
"""These and every domain below them."""
RESERVED_KEYS = ("app.kubernetes.io/instance", "app.kubernetes.io/managed-by")

NOT_FOR_TEMPLATES = ("type", "provider")

_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
# It becomes a part of an API path, so nothing that could lead a request elsewhere is let through.
_UPSTREAM_NAME = re.compile(r"[^\s/.\x00-\x20\x7f\ud800-\udfff][^\s/\x00-\x20\x7f\ud800-\udfff]{0,127}")
_SECRET_KEY = re.compile(r"(?!\.\.|\.$)[-._a-zA-Z0-9]{1,253}")
_MOUNT_PATH = re.compile(r"/[^:\x00-\x1f\x7f\x85\u2028\u2029\ud800-\udfff]{0,1023}")
_KEY_RULE = "1 to 253 letters, digits, '-', '_' and '.'"


NOTHING: Mapping[str, str] = MappingProxyType({})
"""One empty mapping for every resource without labels, annotations or templates of its own."""


class KeySet(StrEnum):
    """Which family of keys a Secret holds."""

    BINDING = "Binding"
    """Lower-case keys, one file each, as the Service Binding specification names them."""
    ENV = "Env"
    """Upper-case keys for `envFrom`, as the clients themselves name them."""
    FILES = "Files"
    """Whole configuration files of clients (`pg_service.conf`, `my.cnf`, `client.properties`)."""


class Endpoint(StrEnum):
    """One of the four addresses of a cluster, or the private ones of its read-only replicas."""

    PRIVATE = "Private"
    STANDBY = "Standby"
    PUBLIC = "Public"
    PUBLIC_STANDBY = "PublicStandby"
    REPLICAS = "Replicas"


class MissingStandby(StrEnum):
    """What the standby's keys hold where the cluster has no standby."""

    OMIT = "Omit"
    """Nothing: they are absent."""
    USE_PRIMARY = "UsePrimary"
    """The primary, so that an application that only reads can start."""


class Tls(StrEnum):
    """What the connection keys ask of a client whose default is to verify nothing."""

    VERIFY = "Verify"
    """That it verifies the server by the mounted CA, where `mountPath` says where that is."""
    ENCRYPT = "Encrypt"
    """Encryption alone: the client verifies on its own, or cannot."""


class SecretType(StrEnum):
    """A type for the Secret other than `servicebinding.io/` and the engine's."""

    OPAQUE = "Opaque"


class DeletionPolicy(StrEnum):
    """What happens to the Secret when the resource is deleted."""

    DELETE = "Delete"
    RETAIN = "Retain"


@dataclass(frozen=True, slots=True, kw_only=True)
class SecretKeyRef:
    """A key of a Secret in the resource's own namespace."""

    name: str
    key: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SecretSpec:
    """What the Secret should be. `type` is None for the engine's Service Binding type."""

    name: str
    type: SecretType | None = None
    key_sets: frozenset[KeySet] = frozenset({KeySet.BINDING, KeySet.ENV})
    endpoints: frozenset[Endpoint] = frozenset({Endpoint.PRIVATE, Endpoint.STANDBY})
    missing_standby: MissingStandby = MissingStandby.OMIT
    mount_path: str = ""
    tls: Tls = Tls.VERIFY
    labels: Mapping[str, str] = field(default_factory=lambda: NOTHING)
    annotations: Mapping[str, str] = field(default_factory=lambda: NOTHING)
    deletion_policy: DeletionPolicy = DeletionPolicy.DELETE
    template: Mapping[str, str] = field(default_factory=lambda: NOTHING)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """What a DatabaseClusterRef asks for. `refresh_interval` is in seconds, at least MINIMUM_REFRESH_INTERVAL."""

    identity: ObjectMeta
    cluster_uuid: str
    token_secret: SecretKeyRef | None = None
    password_secret: SecretKeyRef | None = None
    refresh_interval: float
    suspend: bool = False
    user: str = ""
    database: str = ""
    pool: str = ""
    restart: tuple[Workload, ...] = ()
    ca_config_map: str = ""
    secret: SecretSpec

    @property
    def key(self) -> ObjectKey:
        """The resource's namespace and name."""
        return self.identity.key

    @property
    def wants_replicas(self) -> bool:
        """Return whether the Secret holds the read-only replicas, which are listed apart from the cluster."""
        return Endpoint.REPLICAS in self.secret.endpoints

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
        spec = _read(body.get("spec"))
        user, database, pool = (
            _upstream_name(text or "", path=f"spec.{name}")
            for name, text in (("user", spec.user), ("database", spec.database), ("pool", spec.pool))
        )
        if database and pool:
            raise InvalidSpec("spec.database and spec.pool are mutually exclusive: a pool has its own database; remove one.")
        secret = _secret_spec(spec.secret, default_name=identity.key.name)
        return cls(
            identity=identity,
            cluster_uuid=_cluster_uuid(spec.cluster_uuid or ""),
            token_secret=_key_ref(
                spec.api_token_secret_ref, path="spec.apiTokenSecretRef", default_key=DEFAULT_TOKEN_KEY, own=secret.name
            ),
            password_secret=_key_ref(
                spec.password_secret_ref, path="spec.passwordSecretRef", default_key=DEFAULT_PASSWORD_KEY, own=secret.name
            ),
            refresh_interval=parse_duration(
                spec.refresh_interval or DEFAULT_REFRESH_INTERVAL, field_name="spec.refreshInterval"
            ),
            suspend=spec.suspend or False,
            user=user,
            database=database,
            pool=pool,
            restart=read_workloads(spec.restart, path="spec.restart"),
            ca_config_map=_object_name(spec.ca_config_map.name or "", path="spec.caConfigMap.name", kind="ConfigMap")
            if spec.ca_config_map
            else "",
            secret=secret,
        )


class _KeyRefFields(msgspec.Struct):
    name: str | None = None
    key: str | None = None


class _NameFields(msgspec.Struct):
    name: str | None = None


class _SecretFields(msgspec.Struct, rename="camel"):
    name: str | None = None
    type: str | None = None
    key_sets: list[str] | None = None
    endpoints: list[str] | None = None
    missing_standby: str | None = None
    mount_path: str | None = None
    tls: str | None = None
    labels: dict[str, str] | None = None
    annotations: dict[str, str] | None = None
    deletion_policy: str | None = None
    template: dict[str, str] | None = None


class _SpecFields(msgspec.Struct, rename="camel"):
    """The spec as JSON has it. Each field may be absent or null; unknown ones are ignored."""

    cluster_uuid: str | None = msgspec.field(name="clusterUUID", default=None)
    api_token_secret_ref: _KeyRefFields | None = None
    password_secret_ref: _KeyRefFields | None = None
    refresh_interval: str | None = None
    suspend: bool | None = None
    user: str | None = None
    database: str | None = None
    pool: str | None = None
    restart: list[WorkloadFields] | None = None
    ca_config_map: _NameFields | None = msgspec.field(name="caConfigMap", default=None)
    secret: _SecretFields | None = None


_EXPECTED = {"str": "a string", "bool": "true or false", "array": "a list", "object": "an object"}
# msgspec names types and the place, never a value: "Expected `str | null`, got `int` - at `$.secret.name`".
_WRONG_TYPE = re.compile(r"Expected `(\w+)[^`]*`(?:, got `\w+`)?(?: - at (?:`key` in )?`\$([^`]*)`)?")


def _read(spec: object) -> _SpecFields:
    try:
        return msgspec.convert(spec, _SpecFields)
    except msgspec.ValidationError as error:
        found = _WRONG_TYPE.fullmatch(str(error))
        if found is None:
            raise InvalidSpec("spec cannot be read; compare it with `kubectl explain dbref.spec`.") from None
        raise InvalidSpec(f"spec{found[2] or ''} must be {_EXPECTED.get(found[1], found[1])}.") from None


def is_reserved(key: str) -> bool:
    """Return whether a label or annotation key belongs to a tool and may not be set on our Secret."""
    domain, slash, _ = key.partition("/")
    return key in RESERVED_KEYS or (slash == "/" and any(f".{domain}".endswith(f".{name}") for name in RESERVED_DOMAINS))


@lru_cache(maxsize=64)
def one_copy(value: H) -> H:
    """Return equal values as one object: ten thousand resources share few choices and CAs."""
    return value


def _object_name(text: str, *, path: str, kind: str = "Secret") -> str:
    if not is_object_name(text):
        raise InvalidSpec(
            f"{path} is not a valid {kind} name: at most 253 lower-case letters, digits, '-' and '.', for example `orders-db`."
        )
    return text


def _upstream_name(text: str, *, path: str) -> str:
    if text and not _UPSTREAM_NAME.fullmatch(text):
        raise InvalidSpec(
            f"{path} is not a valid DigitalOcean name: at most 128 characters, without '/' and white space, not beginning with "
            "'.', for example `orders`."
        )
    return text


def _cluster_uuid(text: str) -> str:
    if not _UUID.fullmatch(text):
        raise InvalidSpec(
            "spec.clusterUUID must be a lower-case UUID such as `9cc10173-e9ea-4176-9dbc-a4cee4c4ff30`; "
            "doctl databases list shows them."
        )
    return sys.intern(text)


def _key_ref(fields: _KeyRefFields | None, *, path: str, default_key: str, own: str) -> SecretKeyRef | None:
    if fields is None:
        return None
    if not fields.name:
        raise InvalidSpec(f"{path}.name is missing; name a Secret in this namespace.")
    if fields.name == own:
        raise InvalidSpec(f"{path} names the Secret that this resource writes; keep what it needs in another one.")
    key = fields.key or default_key
    if not _SECRET_KEY.fullmatch(key):
        raise InvalidSpec(f"{path}.key is not a valid key of a Secret: {_KEY_RULE}, for example `{default_key}`.")
    return SecretKeyRef(name=_object_name(fields.name, path=f"{path}.name"), key=sys.intern(key))


def _secret_spec(fields: _SecretFields | None, *, default_name: str) -> SecretSpec:
    if fields is None:
        return SecretSpec(name=default_name)
    path, default = "spec.secret", SecretSpec(name=default_name)
    key_sets = _choices(fields.key_sets, KeySet, path=f"{path}.keySets") or default.key_sets
    mount_path = fields.mount_path or ""
    if mount_path and not _MOUNT_PATH.fullmatch(mount_path):
        raise InvalidSpec(f"{path}.mountPath must be an absolute path without ':', for example `/bindings/orders-db`.")
    if KeySet.FILES in key_sets and not mount_path:
        raise InvalidSpec(f"{path}.keySets names Files, which point at ca.crt; set {path}.mountPath as well.")
    return SecretSpec(
        name=_object_name(fields.name or default_name, path=f"{path}.name"),
        type=_choice(fields.type, SecretType, path=f"{path}.type"),
        key_sets=key_sets,
        endpoints=_choices(fields.endpoints, Endpoint, path=f"{path}.endpoints") or default.endpoints,
        missing_standby=_choice(fields.missing_standby, MissingStandby, path=f"{path}.missingStandby")
        or default.missing_standby,
        mount_path=mount_path,
        tls=_choice(fields.tls, Tls, path=f"{path}.tls") or default.tls,
        labels=_not_reserved(fields.labels or {}, path=f"{path}.labels"),
        annotations=_not_reserved(fields.annotations or {}, path=f"{path}.annotations"),
        deletion_policy=_choice(fields.deletion_policy, DeletionPolicy, path=f"{path}.deletionPolicy")
        or default.deletion_policy,
        template=_template(fields.template or {}, path=f"{path}.template"),
    )


def _choice(text: str | None, kind: type[E], *, path: str) -> E | None:
    if not text:
        return None
    if text not in {member.value for member in kind}:
        raise InvalidSpec(f"{path} has an invalid value; allowed: {', '.join(kind)}.")
    return kind(text)


def _choices(texts: list[str] | None, kind: type[E], *, path: str) -> frozenset[E]:
    chosen = (_choice(text or "(empty)", kind, path=f"{path}[{i}]") for i, text in enumerate(texts or ()))
    kept: frozenset[E] = one_copy(frozenset(choice for choice in chosen if choice))
    return kept


def _template(templates: Mapping[str, str], *, path: str) -> Mapping[str, str]:
    """Judge all templates at once, so that one look at the status shows what is wrong."""
    for key in templates:
        if key in NOT_FOR_TEMPLATES:
            raise InvalidSpec(f"{path} may not replace {key}: Service Binding readers recognise the Secret by it.")
        if not _SECRET_KEY.fullmatch(key):
            raise InvalidSpec(f"{path} has a key that is not valid in a Secret: {_KEY_RULE}, for example `SQLALCHEMY_URL`.")
    kept = _bounded(templates, path=path)
    if faults := faults_in_all(templates, path=path):
        raise InvalidSpec(f"{faults}. Placeholders are {known_placeholders()}.")
    return kept


def _not_reserved(texts: Mapping[str, str], *, path: str) -> Mapping[str, str]:
    for key in texts:
        if is_reserved(key):
            raise InvalidSpec(f"{path}: {key[:317]} belongs to another tool or to this operator; remove it.")
    return _bounded(texts, path=path)


def _bounded(texts: Mapping[str, str], *, path: str) -> Mapping[str, str]:
    """Return the map as it is kept. Raises InvalidSpec where it is too large, or holds half a character, which has no UTF-8."""
    try:
        size = sum(len(key.encode()) + len(text.encode()) for key, text in texts.items())
    except UnicodeEncodeError:
        raise InvalidSpec(f"{path} must be text in UTF-8.") from None
    if size > MAXIMUM_TEXTS:
        raise InvalidSpec(f"{path} holds {size} bytes; the maximum is {MAXIMUM_TEXTS}, keys and values together.")
    if not texts:
        return NOTHING
    return dict(texts) if size <= _KEPT_AS_THEY_ARE else CompactTexts(texts)
