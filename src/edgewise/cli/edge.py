"""``edgewise edge``: the device."""

from __future__ import annotations

from pathlib import Path

import typer

from edgewise.cli import _edge_card, _edge_cost, _edge_doctor, _edge_logs, _edge_tune, _edge_unit
from edgewise.cli._edge_data import erase, recover, rotate_key, subject
from edgewise.cli._edge_status import print_status
from edgewise.cli._output import FORMAT, Format

app = typer.Typer(help="The device: decide in real time, keep what is worth learning from.", no_args_is_help=True)
DEVICE_DIR = typer.Option(
    Path("edgewise-device"), "--data-dir", envvar="EDGEWISE_EDGE_DATA_DIR", help="the device's folder"
)


@app.command(epilog="Example: edgewise edge enroll --hub https://127.0.0.1:8443 --token ew_… --data-dir device-a")
def enroll(
    token: str = typer.Option(
        ..., "--token", envvar="EDGEWISE_ENROLMENT_TOKEN", help="one-time token of `edgewise hub enrol-token`"
    ),
    hub: str = typer.Option(
        "https://127.0.0.1:8443", "--hub", envvar="EDGEWISE_EDGE_HUB", help="address of the hub for devices"
    ),
    data_dir: Path = DEVICE_DIR,
) -> None:
    """Make the device's key, get its certificate from the hub of the token, and pin whom the device trusts."""
    from edgewise.edge.agent import enrol

    device = enrol(data_dir, hub, token)
    typer.echo(f"{device} is enrolled; run it: edgewise edge run --data-dir {data_dir} --source FOLDER")


@app.command(epilog="Example: edgewise edge run --data-dir device-a --source camera/")
def run(
    source: str | None = typer.Option(
        None,
        "--source",
        help="a folder, video:PATH, camera:0, rtsp://…, mqtt://HOST/TOPIC, modbus://HOST, opc.tcp://HOST, csv:PATH, "
        "push: or a YAML file; not needed where edge.yaml names one",
    ),
    data_dir: Path = DEVICE_DIR,
    http_port: int = typer.Option(
        8081, "--http-port", min=0, max=65535, help="local API; 0 picks a free port and prints it"
    ),
    hub: str = typer.Option(
        "", "--hub", envvar="EDGEWISE_EDGE_HUB", help="address of the hub; the one of the enrolment without it"
    ),
) -> None:
    """Run the agent: decide, keep, send, update, until SIGTERM."""
    from edgewise.edge._garbage import put_off

    put_off()  # before the agent's modules are loaded
    from edgewise.edge.agent import run as run_agent

    run_agent(data_dir, source, http_port=http_port, hub_url=hub or None)


@app.command(epilog="Example: edgewise edge serve model.onnx --http-port 8081")
def serve(
    models: list[Path] = typer.Argument(..., help="ONNX files or bundles (folders, packed files)", show_default=False),
    host: str = typer.Option("127.0.0.1", "--host", help="address to listen on; loopback by default"),
    http_port: int = typer.Option(8081, "--http-port", min=0, max=65535, help="0 picks a free one and prints it"),
    grpc_port: int | None = typer.Option(
        None, "--grpc-port", min=0, max=65535, help="the same over gRPC; 0 picks a free one; none without it"
    ),
    tls_cert: Path | None = typer.Option(None, "--tls-cert", help="PEM: this server's certificate and its issuers"),
    tls_key: Path | None = typer.Option(None, "--tls-key", help="PEM: its key, without a password"),
    client_ca: Path | None = typer.Option(None, "--client-ca", help="PEM: the authorities whose clients are answered"),
    data_dir: Path | None = typer.Option(None, "--data-dir", help="folder for serve.json: address, process, models"),
) -> None:
    """Serve any ONNX file or bundle by the Open Inference Protocol v2, without any hub.

    With --tls-cert, --tls-key and --client-ca: over TLS, to clients with a certificate only.
    """
    from edgewise.edge._garbage import put_off

    put_off()  # before the server's modules are loaded
    from edgewise.edge.serve import serve as run_server
    from edgewise.edge.serve import tls_of

    tls = tls_of(tls_cert, tls_key, client_ca)
    run_server(models, host=host, http_port=http_port, grpc_port=grpc_port, tls=tls, data_dir=data_dir)


@app.command(epilog="Example: edgewise edge status --data-dir device-a")
def status(data_dir: Path = DEVICE_DIR, output: Format = FORMAT) -> None:
    """Explain what runs, why, what it waits for and what comes next – read from the device's files, offline too."""
    print_status(data_dir, output)


app.command("doctor", epilog=_edge_doctor.EXAMPLE)(_edge_doctor.doctor)
app.command("logs", epilog=_edge_logs.EXAMPLE)(_edge_logs.logs)
app.command("unit", epilog=_edge_unit.EXAMPLE)(_edge_unit.unit)
app.command("cost", epilog=_edge_cost.EXAMPLE)(_edge_cost.cost)
app.command("rotate-key", epilog="Example: edgewise edge rotate-key --data-dir device-a")(rotate_key)
app.command(_edge_card.NAME, epilog=_edge_card.EXAMPLE)(_edge_card.card)
app.command(_edge_tune.NAME, epilog=_edge_tune.EXAMPLE)(_edge_tune.tune)
app.command(epilog="Example: edgewise edge recover --key-file /media/usb/data.key --data-dir device-a")(recover)
app.command(epilog="Example: edgewise edge erase --subject patient-7 --data-dir device-a")(erase)
app.command(epilog="Example: edgewise edge subject patient-7 --data-dir device-a")(subject)
