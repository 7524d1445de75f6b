"""``edgewise trust verify-device-cert``: whether a device certificate holds, judged offline."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import typer

NAME = "verify-device-cert"
EXAMPLE = "Example: edgewise trust verify-device-cert --roots root.pem --intermediates issuer.pem --leaf device.pem"


def verify_device_cert(
    roots: Path = typer.Option(
        ..., "--roots", exists=True, dir_okay=False, help="PEM file with the roots that are trusted"
    ),
    leaf: Path = typer.Option(
        ..., "--leaf", exists=True, dir_okay=False, help="PEM file; its first certificate is judged"
    ),
    intermediates: Path | None = typer.Option(
        None, "--intermediates", exists=True, dir_okay=False, help="PEM file with what may lie between"
    ),
    time: str = typer.Option("", "--time", help="the moment to judge for, RFC 3339; now without it"),
    revoked: Path | None = typer.Option(
        None, "--revoked", exists=True, dir_okay=False, help="a CRL in PEM or DER, or serial numbers, one a line"
    ),
    trust_domain: str = typer.Option("", "--trust-domain", help="the leaf must name a device of this domain"),
) -> None:
    """Say as JSON whether a device certificate holds, and if not, which check failed; exit code 0 or 3."""
    from edgewise.trust import check_trust_domain, ders_of, read_revoked, verify_device_certificate
    from edgewise.wire import NotValid, canonical

    def certificates(path: Path | None, *, may_be_none: bool = False) -> tuple[bytes, ...]:
        if path is None:
            return ()
        data = path.read_bytes()
        if may_be_none and not data.strip():
            return ()
        try:
            return ders_of(data)
        except NotValid as error:
            raise NotValid(f"{path}: {error}", code=error.code) from error

    verdict = verify_device_certificate(
        certificates(roots),
        certificates(intermediates, may_be_none=True),
        certificates(leaf)[0],
        _moment(time),
        None if revoked is None else read_revoked(revoked.read_bytes()),
        trust_domain=check_trust_domain(trust_domain) if trust_domain else None,
    )
    fields = {name: getattr(verdict, name) for name in type(verdict).__slots__}
    fields["not_after"] = verdict.not_after.isoformat() if verdict.not_after else None
    typer.echo(canonical(fields | {"path": list(verdict.path)}))
    raise typer.Exit(0 if verdict.ok else 3)


def _moment(text: str) -> datetime:
    from edgewise.wire import NotValid

    if not text:
        return datetime.now(UTC)
    try:
        when = datetime.fromtimestamp(int(text), UTC) if text.isdecimal() else datetime.fromisoformat(text)
    except (ValueError, OverflowError) as error:
        raise NotValid(f"--time is {text!r}, needs RFC 3339 such as 2026-11-23T12:00:00Z: {error}") from error
    return when if when.tzinfo else when.replace(tzinfo=UTC)
