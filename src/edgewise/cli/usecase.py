"""``edgewise usecase``: check and apply what a user writes first."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from edgewise.cli._hub import HUB, HUB_DATA, TOKEN, connect
from edgewise.cli._output import FORMAT, Format, show

if TYPE_CHECKING:
    from edgewise.wire import UseCase

app = typer.Typer(help="Check and apply use cases.", no_args_is_help=True)

FILE = typer.Argument(..., help="a usecase.yaml", show_default=False)


@app.command(epilog="Example: edgewise usecase check usecase.yaml")
def check(file: Path = FILE, output: Format = FORMAT) -> None:
    """Explain every mistake in a usecase.yaml with its line; says what it understood when there is none."""
    use_case = read_file(file)
    show(
        {
            "use_case": use_case.name,
            "goal": use_case.outcome.goal,
            "sites": [site.name for site in use_case.sites],
            "slices": [item.name for item in use_case.slices],
            "metric": use_case.outcome.metric,
            "owner": use_case.people.owner,
            "approver": use_case.people.approver,
            "leaves_the_device": list(use_case.data.leave),
            "made_private_by": list(use_case.data.transforms),
        },
        output,
    )


@app.command("apply", epilog="Example: edgewise usecase apply usecase.yaml --hub http://127.0.0.1:8080")
def apply_file(
    file: Path = FILE,
    hub: str = HUB,
    token: str = TOKEN,
    data_dir: Path = HUB_DATA,
    dry_run: bool = typer.Option(False, "--dry-run", help="check only, change nothing"),
) -> None:
    """Check a usecase.yaml and bring it to the hub; the same file twice changes nothing."""
    use_case = read_file(file)
    if dry_run:
        typer.echo(f"{use_case.name} is valid; nothing was changed (--dry-run)")
        return
    with connect(hub, token, data_dir) as api:
        answer = api.post("/usecases", content=file.read_bytes(), media_type="application/yaml")
    typer.echo(f"{use_case.name} is applied, version {answer.get('version', 1)}")


def read_file(file: Path) -> UseCase:
    """The use case in this file. Raises NotValid where it cannot be read or has mistakes."""
    from edgewise.hub import read_usecase
    from edgewise.wire import NotValid

    try:
        text = file.read_bytes()
    except OSError as error:
        raise NotValid(f"{file} cannot be read ({error.strerror}); name a usecase.yaml", code="file_missing") from error
    return read_usecase(text, name=str(file))
