"""``edgewise trust``: the keys that vouch for releases – made, shown, replaced, taken out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from edgewise.cli import _trust_certificate
from edgewise.cli._hub import HUB, HUB_DATA, ROOT_DIR, TOKEN, connect
from edgewise.cli._output import FORMAT, Format, show

if TYPE_CHECKING:
    from edgewise.signer import Holders

app = typer.Typer(
    help="The release repository's keys (TUF). Root, targets and release keys stay away from the hub.",
    no_args_is_help=True,
)
app.command(_trust_certificate.NAME, epilog=_trust_certificate.EXAMPLE)(_trust_certificate.verify_device_cert)
KEYS = typer.Option(ROOT_DIR / "keys", "--keys", help="folder with root/, targets/ and release/")
SIGNERS = typer.Option(..., "--keys", help="key file or folder that signs; again for more")
NEW_KEYS = typer.Option(None, "--new-keys", help="folder of the keys that hold the role from now on")
THRESHOLD = typer.Option(1, "--threshold", min=1, max=32, help="how many of the new keys have to sign")


@app.command(epilog="Example: edgewise trust init --keys keys --root-keys 3 --root-threshold 2")
def init(
    keys: Path = KEYS,
    root_keys: int = typer.Option(1, "--root-keys", min=1, max=32, help="how many root keys"),
    root_threshold: int = typer.Option(1, "--root-threshold", min=1, max=32, help="how many of them have to sign"),
    targets_keys: int = typer.Option(1, "--targets-keys", min=1, max=32, help="how many targets keys"),
    targets_threshold: int = typer.Option(1, "--targets-threshold", min=1, max=32, help="how many have to sign"),
    release_keys: int = typer.Option(1, "--release-keys", min=1, max=32, help="how many release keys"),
    release_threshold: int = typer.Option(1, "--release-threshold", min=1, max=32, help="how many have to sign"),
    use_case: list[str] = typer.Option([], "--use-case", help="whose releases the release keys sign; again for more"),
    hub: str = HUB,
    token: str = TOKEN,
    data_dir: Path = HUB_DATA,
) -> None:
    """Hold the key ceremony: make the keys that are not there yet, and give the hub its first root and targets.

    Keys that are in the folders already are used: put NAME.key.json files there for keys in an HSM or key service.
    """
    from datetime import UTC, datetime

    from edgewise.signer import Desk, begin

    holders = {
        "root": _made(keys / "root", root_keys, root_threshold),
        "targets": _made(keys / "targets", targets_keys, targets_threshold),
        "release": _made(keys / "release", release_keys, release_threshold),
    }
    with connect(hub, token, data_dir) as api:
        begin(
            Desk(api, keys / "root"),
            root=holders["root"],
            targets=holders["targets"],
            releases=holders["release"],
            use_cases=use_case,
            now=datetime.now(UTC),
        )
    for name in ("targets", "release"):  # every holder pins the same root
        (keys / name / "root.json").write_bytes((keys / "root" / "root.json").read_bytes())
    for name, held in holders.items():
        typer.echo(f"{name}: {len(held.keys)} keys, {held.threshold} have to sign, in {keys / name}")
    typer.echo("the hub has its root of trust; move root and targets keys to a safe place")


@app.command("make-keys", epilog="Example: edgewise trust make-keys keys/release-2 --count 2")
def make_new_keys(
    folder: Path = typer.Argument(..., help="empty or missing folder for the new keys", show_default=False),
    count: int = typer.Option(1, "--count", min=1, max=32, help="how many keys"),
) -> None:
    """Make keys for a role's next holders, for `delegate` and `rotate`; tells their ids."""
    from edgewise.ports import make_keys
    from edgewise.wire import NotValid

    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise NotValid(f"{folder} is there and not empty; name a new folder, keys are never overwritten")
    for signer in make_keys(folder, count):
        typer.echo(f"{signer.public_key.keyid} in {folder}")


@app.command(epilog="Example: edgewise trust delegate press --keys keys/targets --new-keys keys/release")
def delegate(
    use_case: str = typer.Argument(..., help="name of the use case", show_default=False),
    keys: list[Path] = SIGNERS,
    new_keys: Path = typer.Option(..., "--new-keys", help="folder of the keys that sign its releases"),
    threshold: int = THRESHOLD,
    hub: str = HUB,
    token: str = TOKEN,
    data_dir: Path = HUB_DATA,
) -> None:
    """Let keys sign the releases of a use case, by the targets keys."""
    from edgewise.signer import delegate as act

    _act(
        hub,
        token,
        data_dir,
        keys,
        lambda desk, signers, now: act(desk, use_case, _held(new_keys, threshold), signers, now=now),
    )


@app.command(epilog="Example: edgewise trust rotate targets --keys keys/root --new-keys keys/targets-2")
def rotate(
    role: str = typer.Argument(
        ..., help="root, targets, snapshot, timestamp, director, or a use case", show_default=False
    ),
    keys: list[Path] = SIGNERS,
    new_keys: Path | None = NEW_KEYS,
    threshold: int = THRESHOLD,
    hub: str = HUB,
    token: str = TOKEN,
    data_dir: Path = HUB_DATA,
) -> None:
    """Give a role new keys; devices follow at their next contact, however long they were away.

    Root keys sign for root, targets, snapshot and timestamp; targets keys for the director and for use cases.
    """
    from edgewise.signer import rotate as act

    held = None if new_keys is None else _held(new_keys, threshold)
    _act(hub, token, data_dir, keys, lambda desk, signers, now: act(desk, role, signers, holders=held, now=now))


@app.command(epilog="Example: edgewise trust revoke press 3f9a… --keys keys/targets --own-keys keys/release")
def revoke(
    role: str = typer.Argument(..., help="root, targets, or a use case", show_default=False),
    keyid: str = typer.Argument(..., help="the key's id or its beginning (edgewise trust show)", show_default=False),
    keys: list[Path] = SIGNERS,
    own_keys: list[Path] = typer.Option([], "--own-keys", help="remaining keys of the role, to sign it anew"),
    hub: str = HUB,
    token: str = TOKEN,
    data_dir: Path = HUB_DATA,
) -> None:
    """Take one key out of a role without a new one; enough have to be left for its threshold."""
    from edgewise.ports import read_signers
    from edgewise.signer import revoke as act

    own = read_signers(own_keys) if own_keys else []
    _act(hub, token, data_dir, keys, lambda desk, signers, now: act(desk, role, keyid, signers, own=own, now=now))


@app.command(epilog="Example: edgewise trust sign root --keys /media/second-holder")
def sign(
    role: str = typer.Argument(..., help="role whose document waits (edgewise trust show)", show_default=False),
    keys: list[Path] = SIGNERS,
    hub: str = HUB,
    token: str = TOKEN,
    data_dir: Path = HUB_DATA,
) -> None:
    """Add your signature to root or targets metadata that wait for it; releases are signed with `release sign`."""
    from edgewise.signer import add_signature

    _act(hub, token, data_dir, keys, lambda desk, signers, _now: add_signature(desk, role, signers))


@app.command("show", epilog="Example: edgewise trust show -o yaml")
def show_trust(hub: str = HUB, token: str = TOKEN, data_dir: Path = HUB_DATA, output: Format = FORMAT) -> None:
    """Show every role: version, expiry, keys and threshold, and what waits for signatures."""
    with connect(hub, token, data_dir) as api:
        state = api.get("/trust")
    if output is not Format.table:
        show(state, output)
        return
    published = {item["role"] for item in state["roles"]}
    unused = [item for item in state["delegated"] if item["role"] not in published]
    rows = [
        {**item, "keys": ", ".join(key["keyid"][:12] for key in item["keys"]), "waits": ""}
        for item in [*state["roles"], *unused]
    ]
    rows += [
        {"role": item["role"], "version": item["version"], "waits": f"{item['missing']} signatures"}
        for item in state["waiting"]
    ]
    show(rows, output, ("role", "version", "expires_at", "threshold", "keys", "signed", "waits"))


def _made(folder: Path, count: int, threshold: int) -> Holders:
    from edgewise.ports import make_keys
    from edgewise.signer import Holders

    described = folder.is_dir() and any(folder.glob("*.key.json"))
    signers = make_keys(folder, 0 if described else count)
    return Holders(keys=[signer.public_key for signer in signers], signers=signers, threshold=threshold)


def _held(folder: Path, threshold: int) -> Holders:
    """The role's new holders; those whose private keys are here sign, public ones are only named."""
    from edgewise.ports import read_public_keys, read_signers
    from edgewise.signer import Holders
    from edgewise.wire import NotValid

    keys = read_public_keys([folder])
    try:
        signers = read_signers([folder])
    except NotValid as error:
        if error.code != "key_missing":
            raise
        signers = []
    return Holders(keys=keys, signers=signers, threshold=threshold)


def _act(hub: str, token: str, data_dir: Path, keys: list[Path], act: Any) -> None:
    """Carry out one change at the hub and say what came of it."""
    from datetime import UTC, datetime

    from edgewise.ports import read_signers
    from edgewise.signer import Desk

    with connect(hub, token, data_dir) as api:
        folder = keys[0] if keys[0].is_dir() else keys[0].parent
        done = act(Desk(api, folder), read_signers(keys), datetime.now(UTC))
    for role, version in done["published"].items():
        typer.echo(f"{role} version {version} is published")
    for role, missing in done["waiting"].items():
        typer.echo(f"{role} waits for {missing} more signatures: edgewise trust sign {role}")
