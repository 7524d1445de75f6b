"""Reading a model registry of MLflow over REST: which version a name means, and its files, of bounded size.

Source: MLflow, REST API 2.0 (registered-models/alias, model-versions/get, model-versions/get-download-uri,
runs/get and mlflow-artifacts). Where the server keeps files elsewhere than behind itself, its own pages' route
``model-versions/get-artifact`` has it fetch them.
"""

from __future__ import annotations

import os
import re
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeAlias
from urllib.parse import quote, unquote

from edgewise.ports._files import disk_error
from edgewise.ports._secret import read_secret
from edgewise.wire import EdgewiseError, NotNow, NotTrusted, NotValid, loads

if TYPE_CHECKING:
    import httpx

TOKEN_ENV = "EDGEWISE_MLFLOW_TOKEN"
API = "/api/2.0/mlflow"
PROXIED = "mlflow-artifacts:"
REPLY_BYTES_MAX = 1 << 20
FILE_S_MAX = 3600.0
PIECE_BYTES = 1 << 18
LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
EXAMPLE = "mlflow://mlflow.example.org/models/pump/3 or …/models/pump@champion"
ADDRESS = re.compile(
    r"mlflow(?P<plain>\+http)?://(?P<host>[A-Za-z0-9.-]+|\[[0-9A-Fa-f:]+\])(?P<port>:\d{1,5})?(?P<prefix>(/[\w.~-]+)*?)"
    r"/models/(?P<name>[^/@?#]+)(/(?P<version>\d{1,9})|@(?P<alias>[^/@?#]+))"
)


Take: TypeAlias = Callable[[bytes], object]
Tell: TypeAlias = Callable[[float], object]


def _say_nothing(_share: float) -> None:
    return None


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelAddress:
    """A version of a registered model at a server.

    Attributes:
        server: its address, such as ``https://mlflow.example.org``.
        version: None where an alias says it.
    """

    server: str
    name: str
    version: str | None
    alias: str | None


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelVersion:
    """What the registry says of a version.

    Attributes:
        source: where the version was registered from.
        files_at: where its files are.
    """

    name: str
    version: str
    run_id: str
    source: str
    files_at: str


def is_registry(text: str) -> bool:
    """Whether this is an address of a registry rather than a file.

    >>> is_registry("mlflow://mlflow.example.org/models/pump/3"), is_registry("pump.onnx")
    (True, False)
    """
    return re.match(r"mlflow(\+\w+)?://", text) is not None


def read_address(text: str) -> ModelAddress:
    """The parts of an address; `mlflow` is HTTPS, `mlflow+http` plain HTTP on this machine alone.

    Raises:
        NotValid: it is no such address, or plain HTTP would carry the token over a network.

    >>> read_address("mlflow://mlflow.example.org/models/pump@champion").alias
    'champion'
    """
    found = ADDRESS.fullmatch(text)
    if found is None:
        raise NotValid(
            f"{text[:200]!r} is no address of a registered model; needs one such as {EXAMPLE}", code="url_invalid"
        )
    plain, host = found["plain"] is not None, found["host"]
    if plain and host not in LOOPBACK:
        raise NotValid(
            f"mlflow+http is for this machine only, {host} is another: a token would cross the network in the clear; "
            "use mlflow://, which is HTTPS",
            code="url_invalid",
        )
    server = f"{'http' if plain else 'https'}://{host}{found['port'] or ''}{found['prefix'] or ''}"
    alias = found["alias"]
    return ModelAddress(
        server=server, name=unquote(found["name"]), version=found["version"], alias=alias and unquote(alias)
    )


def read_token(file: Path | None, env: str) -> str | None:
    """The registry's token: from a file, else from an environment variable where it is set, else none.

    Raises:
        NotValid: the file is not there, or empty. NotTrusted: others can read it.
    """
    return read_secret(None if file is None else str(file), env if env in os.environ else None, "the registry's token")


class Registry:
    """One server's registry, for reading.

    Args:
        server: see `ModelAddress`.
        token: sent as a bearer token, or as the password of `user`; None for a server that asks for none.
        ca: a file with the authority of its certificate; the system's authorities without one.
    Raises:
        NotValid: the authority's file cannot be read.
    """

    def __init__(
        self,
        server: str,
        *,
        token: str | None = None,
        user: str | None = None,
        ca: Path | None = None,
        timeout_s: float = 30.0,
    ) -> None:
        import httpx

        try:
            context = ssl.create_default_context(cafile=None if ca is None else str(ca))
        except (OSError, ssl.SSLError) as error:
            raise NotValid(f"{ca} cannot be read as certificates: {error}", code="file_unreadable") from error
        basic = None if user is None or token is None else (user, token)
        headers = {"Authorization": f"Bearer {token}"} if token is not None and basic is None else {}
        self.server = server
        self._http = httpx.Client(
            base_url=server, headers=headers, auth=basic, verify=context, timeout=timeout_s, trust_env=False
        )

    def __enter__(self) -> Registry:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._http.close()

    def version(self, address: ModelAddress) -> ModelVersion:
        """The version that an address means.

        Raises:
            NotNow: the server does not answer. NotTrusted: it wants another token, or its certificate does not hold.
            NotValid: it has no such model, version or alias, or the version is not ready.
        """
        if address.version is None:
            found = self._json(
                "registered-models/alias",
                f"alias {address.alias} of {address.name}",
                name=address.name,
                alias=address.alias or "",
            )
        else:
            found = self._json(
                "model-versions/get",
                f"version {address.version} of {address.name}",
                name=address.name,
                version=address.version,
            )
        told = found.get("model_version")
        if not isinstance(told, dict) or not re.fullmatch(r"\d{1,9}", str(told.get("version", ""))):
            raise NotValid(f"{self.server} answers, but not as a registry of MLflow does", code="registry_wrong")
        version = str(told["version"])
        if told.get("status", "READY") != "READY":
            raise NotValid(
                f"version {version} of {address.name} is {str(told['status'])[:40]}, needs to be READY",
                code="registry_not_ready",
            )
        place = self._json(
            "model-versions/get-download-uri", f"files of {address.name}", name=address.name, version=version
        )
        return ModelVersion(
            name=address.name,
            version=version,
            run_id=str(told.get("run_id") or "")[:200],
            source=str(told.get("source") or "")[:1000],
            files_at=self._place(str(place.get("artifact_uri") or "")[:2000]),
        )

    def _place(self, uri: str) -> str:
        """Where files are; a version that was registered from a run's files names only the run."""
        found = re.fullmatch(r"runs:/([0-9A-Za-z-]{1,64})/(.+)", uri)
        if found is None:
            return uri
        run = self._json("runs/get", f"run {found[1]}", run_id=found[1]).get("run")
        info = run.get("info") if isinstance(run, dict) else None
        root = str(info.get("artifact_uri") or "") if isinstance(info, dict) else ""
        return f"{root.rstrip('/')}/{found[2]}"

    def read(self, version: ModelVersion, path: str) -> bytes:
        """A small file of a version, such as its ``MLmodel``. Raises as `fetch`."""
        pieces: list[bytes] = []
        self._stream(*_file_route(version, path), what=path, bytes_max=REPLY_BYTES_MAX, take=pieces.append)
        return b"".join(pieces)

    def fetch(self, version: ModelVersion, path: str, to: Path, *, bytes_max: int, tell: Tell = _say_nothing) -> None:
        """A file of a version, written to a place that is ours alone.

        Args:
            tell: told how much of it is there, from 0 to 1, where the server says how long it is.
        Raises:
            NotValid: there is no such file, it is too long, or its name is none. The others as `version`.
        """
        try:
            with to.open("wb") as file:
                self._stream(*_file_route(version, path), what=path, bytes_max=bytes_max, take=file.write, tell=tell)
        except OSError as error:
            raise disk_error(error, to) from error

    def _json(self, path: str, what: str, **query: str) -> dict[str, Any]:
        pieces: list[bytes] = []
        self._stream(f"{API}/{path}", query, what=what, bytes_max=REPLY_BYTES_MAX, take=pieces.append)
        try:
            value = loads(b"".join(pieces))
        except NotValid:
            value = None
        if not isinstance(value, dict):
            raise NotValid(f"{self.server} answers, but not as a registry of MLflow does", code="registry_wrong")
        return value

    def _stream(
        self, path: str, query: dict[str, str], *, what: str, bytes_max: int, take: Take, tell: Tell = _say_nothing
    ) -> None:
        import httpx

        seen, end = 0, time.monotonic() + FILE_S_MAX
        try:
            with self._http.stream("GET", path, params=query) as response:
                if response.status_code != 200:
                    raise self._refusal(response, what)
                length = response.headers.get("content-length", "")
                whole = int(length) if length.isascii() and length.isdigit() else 0
                for piece in response.iter_bytes(PIECE_BYTES):
                    seen += len(piece)
                    if seen > bytes_max:
                        raise NotValid(f"{what} has over {bytes_max} bytes, more than are read", code="file_huge")
                    if time.monotonic() > end:
                        raise NotNow(f"{what} was not there after {FILE_S_MAX:.0f} s; try again", code="registry_slow")
                    take(piece)
                    tell(min(1.0, seen / whole) if whole else 0.0)
        except httpx.HTTPError as error:
            raise self._down(error) from error

    def _refusal(self, response: httpx.Response, what: str) -> EdgewiseError:
        status = response.status_code
        text = _message(response)
        if status in (401, 403):
            return NotTrusted(
                f"{self.server} does not let us read {what} ({status}{text}); give its token: EDGEWISE_MLFLOW_TOKEN or "
                "--mlflow-token-file, with --mlflow-user where it is a password",
                code="registry_denied",
            )
        if status in (408, 425, 429) or status >= 500:
            return NotNow(f"{self.server} cannot answer now ({status}{text}); try again later", code="registry_busy")
        if 300 <= status < 400:
            return NotValid(
                f"{self.server} sends us on to {response.headers.get('location', '')[:200]!r}; name that address",
                code="registry_moved",
            )
        return NotValid(f"{self.server} has no {what} ({status}{text})", code="registry_missing")

    def _down(self, error: Exception) -> EdgewiseError:
        if "CERTIFICATE_VERIFY_FAILED" in str(error):
            return NotTrusted(
                f"the certificate of {self.server} does not hold; check it, or give its authority: --mlflow-ca",
                code="registry_certificate",
            )
        return NotNow(f"no registry answers at {self.server} ({type(error).__name__})", code="registry_unreachable")


def _message(response: httpx.Response) -> str:
    """What the server says of its refusal, for people; of bounded size."""
    data = b""
    for piece in response.iter_bytes(PIECE_BYTES):
        data += piece
        if len(data) > REPLY_BYTES_MAX:
            return ""
    try:
        value = loads(data)
    except NotValid:
        return ""
    text = value.get("message") if isinstance(value, dict) else None
    return f": {' '.join(str(text).split())[:300]}" if text else ""


def _file_route(version: ModelVersion, path: str) -> tuple[str, dict[str, str]]:
    """Where a file of a version is read, and with which query. NotValid: its name leads out of the version's folder."""
    steps = path.split("/")
    if not path or len(path) > 500 or any(step in ("", ".", "..") for step in steps) or "\\" in path or "\0" in path:
        raise NotValid(f"{path[:200]!r} is no name of a file in a model's folder", code="registry_wrong")
    at = version.files_at
    if at.startswith(PROXIED):
        # mlflow-artifacts:/PATH, or with the host that serves it: the one that we ask.
        inner = re.sub(r"^//[^/]*", "", at[len(PROXIED) :]).strip("/")
        return f"/api/2.0/mlflow-artifacts/artifacts/{quote(inner)}/{quote(path)}", {}
    return "/model-versions/get-artifact", {"name": version.name, "version": version.version, "path": path}
