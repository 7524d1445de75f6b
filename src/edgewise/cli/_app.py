"""The tree of commands, noun first."""

from __future__ import annotations

import typer

from edgewise.cli import (
    audit,
    bundle,
    courier,
    deidentify,
    demo,
    edge,
    erasure,
    hub,
    label,
    learn,
    release,
    rollout,
    score,
    signer,
    sim,
    trust,
    up,
    usecase,
    version,
)


def build() -> typer.Typer:
    """The whole command line as one typer application."""
    app = typer.Typer(
        name="edgewise",
        help="AI across a cloud and its edge as one loop: train in the cloud, decide at the edge, learn from the edge.",
        epilog="First try: [bold]edgewise demo factory --quick[/bold]",
        no_args_is_help=True,
        rich_markup_mode="rich",
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    for single in (up, demo, deidentify, score, version):
        app.command(single.NAME, epilog=single.EXAMPLE)(single.command)
    for group in (
        hub,
        learn,
        signer,
        trust,
        edge,
        usecase,
        release,
        rollout,
        label,
        erasure,
        audit,
        bundle,
        courier,
        sim,
    ):
        app.add_typer(group.app, name=group.NAME)
    return app
