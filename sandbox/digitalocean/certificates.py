"""Real certificates, made without chance: keys and signatures follow from the seed.

One authority serves a whole team, as one project's does at the provider, so that a fleet costs one key. Client
certificates (Kafka users carry them) are made when a reply needs them.
"""

import datetime as dt
from dataclasses import dataclass

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from sandbox.digitalocean.generate import draw, draw_uuid

_NOT_BEFORE = dt.datetime(2024, 1, 1, tzinfo=dt.UTC)
_NOT_AFTER = dt.datetime(2044, 1, 1, tzinfo=dt.UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientCertificate:
    """A user's certificate and key, both PEM."""

    certificate: str
    key: str


class Authority:
    """A team's certificate authority."""

    def __init__(self, *, seed: int, team: str) -> None:
        self._seed = seed
        self._key = _private_key(seed, "authority", team)
        self._name = _name(f"{draw_uuid(seed, 'project', team)} Project CA")
        self.pem = _pem(
            _builder(self._name, self._name, self._key, serial=_serial(seed, "authority", team))
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .sign(self._key, hashes.SHA256(), ecdsa_deterministic=True)
        )

    def issue(self, common_name: str, *purpose: object) -> ClientCertificate:
        """Sign a client certificate; the same purpose gets the same bytes."""
        key = _private_key(self._seed, "client", *purpose)
        certificate = _builder(_name(common_name), self._name, key, serial=_serial(self._seed, "client", *purpose)).sign(
            self._key, hashes.SHA256(), ecdsa_deterministic=True
        )
        encoded = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        return ClientCertificate(certificate=_pem(certificate), key=encoded.decode())


def _private_key(seed: int, *purpose: object) -> ec.EllipticCurvePrivateKey:
    # 31 bytes stay below the order of P-256 and are never zero in practice.
    return ec.derive_private_key(int.from_bytes(draw(seed, "key", *purpose)[:31]), ec.SECP256R1())


def _serial(seed: int, *purpose: object) -> int:
    return int.from_bytes(draw(seed, "serial", *purpose)[:15]) + 1


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name[:64])])


def _builder(subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, *, serial: int) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(serial)
        .not_valid_before(_NOT_BEFORE)
        .not_valid_after(_NOT_AFTER)
    )


def _pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(serialization.Encoding.PEM).decode()
