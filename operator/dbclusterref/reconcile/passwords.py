"""The password that `spec.passwordSecretRef` supplies, for an engine whose API shows none."""

import base64
from http import HTTPStatus

from dbclusterref.digitalocean.tokens import SecretReader
from dbclusterref.errors import KubernetesError, PasswordMissing, PasswordSecretForbidden
from dbclusterref.resource.objects import ObjectKey
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
                f"input: kubectl create secret generic -n {key.namespace} {key.name} --from-file={ref.key}=/dev/stdin"
            )
        kind = str(secret.get("type", ""))
        if kind.startswith(_NOT_FOR_PASSWORDS) and kind != _FOR_PASSWORDS:
            raise PasswordMissing(
                f"Secret {key.name} (spec.passwordSecretRef) has the type {kind[:100]}, which is for something else; put the "
                "password into a Secret of its own."
            )
        return _password(secret.get("data") or {}, ref)


def _password(data: object, ref: SecretKeyRef) -> str:
    encoded = data.get(ref.key, "") if isinstance(data, dict) else ""
    try:
        password = password_in(base64.b64decode(str(encoded)))
    except ValueError:
        password = ""
    if not password:
        raise PasswordMissing(
            f"Secret {ref.name} (spec.passwordSecretRef) must hold the password, one line of text of at most "
            f"{LONGEST_PASSWORD} characters, under the key {ref.key}."
        )
    return password


def password_in(content: bytes) -> str:
    """Return the one line of text that a password is, without the line break that ends it; "" where it is something else."""
    try:
        password = content.decode().rstrip("\r\n")
    except UnicodeDecodeError:
        return ""
    return password if len(password) <= LONGEST_PASSWORD and password.isprintable() else ""
