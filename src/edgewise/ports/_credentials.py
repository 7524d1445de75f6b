"""A device's key, its certificate and the hub's root, as files: what its TLS connections are made of."""

from __future__ import annotations

import ssl
from datetime import datetime
from pathlib import Path

from edgewise.ports._files import disk_error, replace_file
from edgewise.ports._keys import FolderKeys
from edgewise.trust import CertificateKey, ders_of, key_of, make_request, pem_of, validity_of, verify_device_certificate
from edgewise.wire import NotTrusted, NotValid

KEY_NAME = "device"
CERTIFICATE_FILE = "certificate.pem"
ROOT_FILE = "hub-root.pem"


class Credentials:
    """The files in a device's folder; a new certificate replaces the old one whole.

    Args:
        folder: the device's folder; it must exist.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder)
        self._certificate = self.folder / CERTIFICATE_FILE

    @property
    def key(self) -> CertificateKey:
        """The device's key; made when it is first asked for."""
        return FolderKeys(self.folder / "keys").certificate_key(KEY_NAME)

    @property
    def root(self) -> bytes:
        """The hub's root, DER. NotValid with code ``not_enrolled``: it was not pinned yet."""
        return ders_of(self._read(self.folder / ROOT_FILE))[0]

    def pin(self, root: bytes) -> None:
        """Believe this root, DER, from now on."""
        replace_file(self.folder / ROOT_FILE, pem_of(root))

    def certificates(self) -> bytes:
        """The device's certificate and what lies between it and the root, PEM. NotValid with code ``not_enrolled``."""
        return self._read(self._certificate)

    def validity(self) -> tuple[datetime, datetime]:
        """From when to when the certificate holds. NotValid with code ``not_enrolled``: there is none."""
        return validity_of(ders_of(self._read(self._certificate))[0])

    def request(self, wish: str = "") -> bytes:
        """A signing request, PKCS #10 in DER."""
        return make_request(self.key, wish)

    def take(self, chain: tuple[bytes, ...]) -> None:
        """Use what the hub issued: the device's certificate and what lies between it and the root, in any order.

        Raises:
            NotTrusted: none of them is for this key, or it does not lead to the pinned root; nothing is changed.
        """
        mine = [one for one in chain if _is_for(one, self.key)]
        if len(mine) != 1:
            raise NotTrusted(
                f"the hub sent {len(chain)} certificates, {len(mine)} of them for this device's key, needs exactly one",
                code="certificate_wrong",
            )
        between = tuple(one for one in chain if one is not mine[0])
        # Judged for the moment in which it begins: the device's clock may be wrong, and signatures do not depend on it.
        verdict = verify_device_certificate([self.root], between, mine[0], validity_of(mine[0])[0])
        if not verdict.ok:
            raise NotTrusted(f"the certificate from the hub does not hold: {verdict.reason}", code="certificate_wrong")
        replace_file(self._certificate, pem_of(mine[0], *between))

    def stamp(self) -> tuple[int, ...]:
        """Changes with the certificate; all zeros where there is none."""
        try:
            state = self._certificate.stat()
        except OSError:
            return (0, 0, 0)
        return (state.st_ino, state.st_mtime_ns, state.st_size)

    def context(self, *, with_certificate: bool = True) -> ssl.SSLContext:
        """TLS 1.2 or 1.3 with the hub, which must show a certificate of the pinned root.

        Args:
            with_certificate: show the device's own; without it only enrolment is answered.
        Raises:
            NotValid: not enrolled, or a file is damaged.
        """
        context = tls_context(self.root)
        if with_certificate:
            try:
                context.load_cert_chain(self._certificate, self.folder / "keys" / f"{KEY_NAME}.pem")
            except FileNotFoundError as error:
                raise _not_enrolled(self._certificate) from error
            except ssl.SSLError as error:
                raise NotValid(
                    f"{self._certificate} and the key beside it cannot be used: {error}; enrol again into an empty "
                    "folder",
                    code="certificate_invalid",
                ) from error
        return context

    def _read(self, file: Path) -> bytes:
        try:
            return file.read_bytes()
        except FileNotFoundError as error:
            raise _not_enrolled(file) from error
        except OSError as error:
            raise disk_error(error, file) from error


def tls_context(root: bytes | None) -> ssl.SSLContext:
    """A client's context that believes this root only; None believes anybody, to fetch what is compared afterwards."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if root is None:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    else:
        context.load_verify_locations(cadata=pem_of(root).decode())
    return context


def _is_for(certificate: bytes, key: CertificateKey) -> bool:
    try:
        return key_of(certificate) == key.public
    except (NotValid, ValueError):
        return False


def _not_enrolled(file: Path) -> NotValid:
    return NotValid(
        f"{file} does not exist: this device is not enrolled; run `edgewise edge enroll`", code="not_enrolled"
    )
