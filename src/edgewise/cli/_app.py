"""The tree of commands, noun first."""

from __future__ import annotations

import importlib

import typer

SINGLE = ("up", "demo", "deidentify", "score", "version")
GROUPS = (
    "hub",
    "learn",
    "signer",
    "trust",
    "device",
    "edge",
    "usecase",
    "release",
    "rollout",
    "data",
    "assess",
    "label",
    "erasure",
    "audit",
    "field",
    "drift",
    "ledger",
    "bundle",
    "courier",
    "sim",
)


def build(only: str | None = None) -> typer.Typer:
    """The command line as one typer application.

    Args:
        only: the first word that a person typed. Where it names a command or a group, nothing else is loaded: a
            device that starts again need not know the hub's commands.
    """
    app = typer.Typer(
        name="edgewise",
        help="AI across a cloud and its edge as one loop: train in the cloud, decide at the edge, learn from the edge.",
        epilog="First try: [bold]edgewise demo factory --quick[/bold]",
        callback=_always_a_group,
        no_args_is_help=True,
        rich_markup_mode="rich",
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    known = only in (*SINGLE, *GROUPS)
    for name in (*SINGLE, *GROUPS):
        if known and name != only:
            continue
        module = importlib.import_module(f"edgewise.cli.{name}")
        if name in SINGLE:
            app.command(name, epilog=module.EXAMPLE)(module.command)
        else:
            app.add_typer(module.app, name=name)
    return app


def _always_a_group() -> None:
    # Without a callback typer takes an application with one command for that command.
    return None
