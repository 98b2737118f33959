"""Where a reference's API token comes from: a Secret beside it, or the operator's own where its namespace was named."""

import base64
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Protocol

from dbclusterref.errors import AccessDenied, Forbidden, KubernetesError, TokenInvalid, TokenSecretForbidden, TokenSecretMissing
from dbclusterref.resource import secret_commands
from dbclusterref.resource.objects import ObjectKey
from dbclusterref.resource.reference import Reference, SecretKeyRef
from dbclusterref.resource.rights import how_to_grant_get

MAX_AGE = 10.0
"""Seconds a token Secret's content is kept: as short as the shortest refresh interval, so that a rotated token works at the
next read, and long enough that a namespace full of references asks once."""

LONGEST_TOKEN = 2048
"""Characters. DigitalOcean's have 71; each is sent with every request, and kept for as long as its account."""
KEPT_AT_MOST = 4096
"""Bytes of names and values, as the API has them. A larger Secret is read for each use: one may have a megabyte."""
TYPE_SHOWN = 100
"""Characters of a Secret's type that a message names; the API server takes any length."""

OPAQUE = "Opaque"
"""The only type of Secret that a token is taken from."""


class SecretReader(Protocol):
    """Read Secrets from the Kubernetes API."""

    async def get_secret(self, key: ObjectKey) -> dict[str, object] | None: ...  # noqa: D102


@dataclass(frozen=True, slots=True, kw_only=True)
class OperatorToken:
    """The operator's own token: given as such, or in a file that is read for each use (so that it may be rotated).

    `secret` is where that file comes from, as far as that is known: messages name it.
    """

    value: str = field(default="", repr=False)
    file: str = ""
    secret: ObjectKey | None = None

    def read(self) -> str:
        """Raises TokenSecretMissing where there is none."""
        if not self.file and not self.value:
            raise TokenSecretMissing(
                "This resource names no spec.apiTokenSecretRef and the operator has no token of its own. Create a Secret with "
                "a DigitalOcean API token and name it there, or have the operator's owner set --token-file."
            )
        if not self.file:
            return self.value
        try:
            token = Path(self.file).read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            remedy = self._missing() if isinstance(error, FileNotFoundError) else self._remedy()
            raise TokenSecretMissing(
                f"The operator's own token file cannot be read ({type(error).__name__}). {remedy}"
            ) from None
        if not token:
            raise TokenSecretMissing(f"The operator's own token is empty. {self._remedy()}")
        return token

    def invalid(self, fault: str) -> TokenInvalid:
        """Return the cause for a token that DigitalOcean, or this program, does not take: `fault` is a clause about it."""
        return TokenInvalid(f"{fault}. {self._remedy()}")

    def _missing(self) -> str:
        if self.secret is None:
            return self._remedy("create it")
        # The Secret may be there without this key, which `create` refuses.
        return self._remedy(f"put it into Secret {self.secret.name}, key {self._key}", command=secret_commands.ensure)

    def _remedy(self, what: str = "replace it", *, command: Callable[..., str] = secret_commands.put) -> str:
        mine = f"Name a Secret with a token of your own in spec.apiTokenSecretRef, or have the operator's owner {what}"
        if self.secret is None:
            return f"{mine} in {'the file of --token-file' if self.file else 'DIGITALOCEAN_TOKEN'}."
        return f"{mine}, with the API token on standard input: {command(self.secret, key=self._key)}"

    @property
    def _key(self) -> str:
        return Path(self.file).name


@dataclass(frozen=True, slots=True)
class _Kept:
    data: Mapping[str, object] | None = field(repr=False)
    read_at: float


class Tokens:
    """Finds a reference's token. `clock` is monotonic, in seconds."""

    def __init__(
        self,
        secrets: SecretReader,
        *,
        own: OperatorToken,
        allowed: Sequence[str],
        clock: Callable[[], float],
    ) -> None:
        self._secrets = secrets
        self._own = own
        self._allowed = allowed
        self._clock = clock
        self._kept: dict[ObjectKey, _Kept] = {}

    async def find(self, reference: Reference, *, fresh: bool = False) -> str:
        """Raises AccessDenied, TokenSecretMissing, TokenSecretForbidden or TokenInvalid; `fresh` leaves out what was kept."""
        if reference.token_secret:
            return await self._from_secret(reference.key.namespace, reference.token_secret, fresh=fresh)
        if not may_use_operator_token(reference.key.namespace, allowed=self._allowed):
            raise AccessDenied(
                f"Namespace {reference.key.namespace} may not use the operator's own token; name a Secret with a token in "
                "spec.apiTokenSecretRef, or have the operator's owner add the namespace to --token-namespaces "
                "(in the chart token.namespaces); the cluster needs a tag for the namespace then, too."
            )
        token = self._own.read()
        if fault := _fault_in(token):
            raise self._own.invalid(f"The operator's own token is not a valid API token ({fault})")
        return token

    def forget(self, secret: ObjectKey) -> None:
        """Have a token Secret read again at its next use: it has changed."""
        self._kept.pop(secret, None)

    def own_state(self) -> int:
        """Return a number that changes with the operator's own token."""
        try:
            return hash(self._own.read())
        except TokenSecretMissing as cause:
            return hash(cause.message)

    def denied(self, reference: Reference) -> Forbidden:
        """Return the cause for which DigitalOcean answered 403: it names where the token came from."""
        return Forbidden(
            f"DigitalOcean denied this request (403) to {in_words(reference)}. Give it the scopes database:read and "
            "database:view_credentials, or put one that has them in its place."
        )

    def rejected(self, reference: Reference) -> TokenInvalid:
        """Return the cause for which DigitalOcean answered 401: it names where the token came from."""
        ref, why = reference.token_secret, "it may have expired or been deleted. The operator uses a new one automatically"
        if ref is None:
            return self._own.invalid(f"DigitalOcean rejected the operator's own API token (401); {why}")
        secret = ObjectKey(reference.key.namespace, ref.name)
        return TokenInvalid(
            f"DigitalOcean rejected the API token (401) of Secret {ref.name}, key {ref.key}; {why}. {_replace(secret, ref)}"
        )

    async def _from_secret(self, namespace: str, ref: SecretKeyRef, *, fresh: bool) -> str:
        secret = ObjectKey(namespace, ref.name)
        data, where = await self._data(secret, fresh=fresh), f"Secret {ref.name}, key {ref.key},"
        if data is None:
            raise TokenSecretMissing(
                f"Secret {ref.name} does not exist in namespace {namespace}. Correct spec.apiTokenSecretRef, or create it, "
                f"with the API token on standard input: {secret_commands.create(secret, key=ref.key)}"
            )
        if ref.key not in data:
            field_name, what = "spec.apiTokenSecretRef", "API token"
            raise TokenSecretMissing(secret_commands.lacks_key(secret, key=ref.key, data=data, field=field_name, what=what))
        try:
            token = base64.b64decode(str(data[ref.key])).decode("utf-8").strip()
        except ValueError:
            raise TokenInvalid(f"{where} does not hold text. {_replace(secret, ref)}") from None
        if not token:
            raise TokenSecretMissing(f"{where} is empty. {_replace(secret, ref)}")
        if fault := _fault_in(token):
            raise TokenInvalid(
                f"{where} does not contain a valid API token ({fault}); store only the token itself. {_replace(secret, ref)}"
            )
        return token

    async def _data(self, key: ObjectKey, *, fresh: bool) -> Mapping[str, object] | None:
        kept = self._kept.get(key)
        if kept and not fresh and self._clock() - kept.read_at < MAX_AGE:
            return kept.data
        try:
            secret = await self._secrets.get_secret(key)
        except KubernetesError as error:
            if error.status == 403:  # noqa: PLR2004
                raise TokenSecretForbidden(
                    f"The operator is not allowed to read Secret {key.name} in namespace {key.namespace}, which "
                    f"spec.apiTokenSecretRef names. {how_to_grant_get(key, denied=error)}"
                ) from None
            raise
        kind = str((secret or {}).get("type") or OPAQUE)
        if kind != OPAQUE:
            # It holds credentials for something else, which must never be sent to DigitalOcean.
            raise TokenSecretMissing(
                f"Secret {key.name} has the type {kind[:TYPE_SHOWN]}, which was made for something else; its content is not "
                f"used. Create a Secret of type {OPAQUE} with the API token and name it in spec.apiTokenSecretRef."
            )
        data = (secret.get("data") or {}) if secret else None
        assert data is None or isinstance(data, Mapping)
        now = self._clock()
        self._kept = {k: v for k, v in self._kept.items() if now - v.read_at < MAX_AGE and k != key}
        if data is None or _size_of(data) <= KEPT_AT_MOST:
            self._kept[key] = _Kept(data, now)
        return data


def _size_of(data: Mapping[str, object]) -> int:
    return sum(len(name) + len(str(value)) for name, value in data.items())


def _replace(secret: ObjectKey, ref: SecretKeyRef) -> str:
    return f"Replace it there, with the API token on standard input: {secret_commands.put(secret, key=ref.key)}"


def _fault_in(token: str) -> str:
    """Return why a text is no token; "" where it may be one."""
    if len(token) > LONGEST_TOKEN:
        return f"more than {LONGEST_TOKEN} characters"
    # What cannot stand in a header must not reach an error message of the HTTP library.
    return "" if token.isascii() and token.isprintable() and " " not in token else "spaces or special characters"


def in_words(reference: Reference) -> str:
    """Return how a message names a reference's token."""
    ref = reference.token_secret
    return f"the API token of Secret {ref.name}, key {ref.key}" if ref else "the operator's own API token"


def may_use_operator_token(namespace: str, *, allowed: Sequence[str]) -> bool:
    """Return whether one of the globs (`team-*`) in `allowed` names the namespace; none does where the list is empty."""
    return any(fnmatchcase(namespace, pattern) for pattern in allowed)
