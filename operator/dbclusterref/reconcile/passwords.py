"""The password that `spec.passwordSecretRef` supplies, for an engine whose API shows none."""

import base64
from collections.abc import Mapping
from http import HTTPStatus

from dbclusterref.digitalocean.tokens import SecretReader
from dbclusterref.errors import KubernetesError, PasswordMissing, PasswordSecretForbidden
from dbclusterref.resource import secret_commands
from dbclusterref.resource.objects import ObjectKey, data_of
from dbclusterref.resource.reference import Reference, SecretKeyRef
from dbclusterref.resource.rights import how_to_grant_get

LONGEST_PASSWORD = 1024
"""Characters. Each reference keeps its password, and a Secret may have a megabyte."""

_NOT_FOR_PASSWORDS = ("kubernetes.io/", "bootstrap.kubernetes.io/")
_FOR_PASSWORDS = "kubernetes.io/basic-auth"


class Passwords:
    """Finds a reference's password. It is read for each use, so that a changed one works at the next read."""

    def __init__(self, secrets: SecretReader) -> None:
        self._secrets = secrets

    async def find(self, reference: Reference) -> str:
        """Return the password, "" where the reference names none. Raises PasswordMissing or PasswordSecretForbidden."""
        ref = reference.password_secret
        return await self._read(ObjectKey(reference.key.namespace, ref.name), ref) if ref else ""

    async def _read(self, key: ObjectKey, ref: SecretKeyRef) -> str:
        try:
            secret = await self._secrets.get_secret(key)
        except KubernetesError as error:
            if error.status == HTTPStatus.FORBIDDEN:
                raise PasswordSecretForbidden(
                    f"The operator is not allowed to read Secret {key.name} in namespace {key.namespace}, which "
                    f"spec.passwordSecretRef names. {how_to_grant_get(key, denied=error)}"
                ) from None
            raise
        if secret is None:
            raise PasswordMissing(
                f"Secret {key.name} (spec.passwordSecretRef) does not exist. Create it, with the password on standard "
                f"input: {secret_commands.create(key, key=ref.key)}"
            )
        kind = str(secret.get("type", ""))
        if kind.startswith(_NOT_FOR_PASSWORDS) and kind != _FOR_PASSWORDS:
            raise PasswordMissing(
                f"Secret {key.name} (spec.passwordSecretRef) has the type {kind[:100]}, which is for something else; put the "
                "password into a Secret of its own."
            )
        return _password(data_of(secret), ref, secret=key)


def _password(data: Mapping[str, object], ref: SecretKeyRef, *, secret: ObjectKey) -> str:
    if ref.key not in data:
        field = "spec.passwordSecretRef"
        raise PasswordMissing(secret_commands.lacks_key(secret, key=ref.key, data=data, field=field, what="password"))
    try:
        password = password_in(base64.b64decode(str(data[ref.key])))
    except ValueError:
        password = ""
    if not password:
        raise PasswordMissing(
            f"Secret {ref.name}, key {ref.key} (spec.passwordSecretRef), must hold the password, one line of text of at most "
            f"{LONGEST_PASSWORD} characters. Replace it there, with the password on standard input: "
            f"{secret_commands.put(secret, key=ref.key)}"
        )
    return password


def password_in(content: bytes) -> str:
    """Return the one line of text that a password is, without the line break that ends it; "" where it is something else."""
    try:
        password = content.decode().rstrip("\r\n")
    except UnicodeDecodeError:
        return ""
    return password if len(password) <= LONGEST_PASSWORD and password.isprintable() else ""
