"""``hub.yaml``: flag over environment over file over default, for everything a hub can be told."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, Field, SecretStr, ValidationError, field_validator

from edgewise.hub.alerts import AlertSettings
from edgewise.hub.oidc import OidcSettings
from edgewise.hub.places import Place
from edgewise.trust import TRUST_DOMAIN
from edgewise.wire import NotValid, Strict, explain

FILE = "hub.yaml"
PREFIX = "EDGEWISE_"
BYTES_MAX = 1 << 20
DATA_DIR = Path("edgewise-data/hub")
OPTIONS = "object_options"
# Options of obstore that are the name of a file themselves.
FILES = frozenset(
    f"{cloud}{name}"
    for cloud in ("", "aws_", "azure_")
    for name in ("web_identity_token_file", "federated_token_file", "container_authorization_token_file")
)


class HubSettings(Strict):
    """What a hub can be told. Each field also as ``EDGEWISE_<FIELD>``, inner ones as ``EDGEWISE_OIDC__ISSUER``."""

    data_dir: Path = Field(DATA_DIR, description="where everything is kept")
    host: str = Field("127.0.0.1", description="address to listen on")
    http_port: int = Field(8080, ge=0, le=65535, description="0 lets the system choose")
    device_host: str = Field("127.0.0.1", description="address to listen on for devices")
    device_port: int = Field(8443, ge=0, le=65535, description="for devices, over TLS; 0 lets the system choose")
    device_names: tuple[str, ...] = Field((), description="hosts by which devices reach the hub, beside loopback")
    trust_domain: str = Field(TRUST_DOMAIN, description="of device certificates; chosen at the first start")
    proxies: tuple[str, ...] = Field((), description="addresses and networks that may end TLS for devices")
    database: str | None = Field(None, description="a PostgreSQL URL instead of SQLite")
    objects: str | None = Field(None, description="an object store such as s3://bucket/prefix")
    object_options: dict[str, SecretStr] = Field(
        default_factory=dict, description="of that object store, by obstore's names; see docs/storage.md"
    )
    tick_s: float = Field(1.0, ge=0.05, description="seconds between rounds of the controllers")
    oidc: OidcSettings | None = Field(None, description="an issuer whose people may sign in")
    alerts: AlertSettings = Field(default_factory=AlertSettings, description="whom to tell of what goes wrong")

    @field_validator("object_options", mode="before")
    @classmethod
    def _as_texts(cls, value: Any) -> Any:
        """YAML reads `true` and `5` as what they look like; the library wants their texts."""
        if not isinstance(value, Mapping):
            return value
        plain = {name: json.dumps(item) if isinstance(item, bool | int) else item for name, item in value.items()}
        return {str(name).lower(): item for name, item in plain.items()}

    @property
    def place(self) -> Place:
        """Where this hub keeps things."""
        return Place(
            data_dir=self.data_dir,
            database_url=self.database or None,
            objects_url=self.objects or None,
            object_options=self.object_texts,
        )

    @property
    def object_texts(self) -> dict[str, str]:
        """The options as the library takes them, secrets and all."""
        return {name: text.get_secret_value() for name, text in self.object_options.items()}


def load_settings(
    file: Path | None, *, environment: Mapping[str, str], flags: Mapping[str, Any] | None = None
) -> HubSettings:
    """The settings of a hub.

    Args:
        file: where it is told so; None looks for `FILE` in the data folder.
        environment: variables; ``…_FILE`` names a file that holds the value, for secrets.
        flags: fields given on the command line; None stands for "not given".
    Raises:
        NotValid: a file cannot be read, or a field is unknown or out of its range; the text names it.
    """
    given = {name: value for name, value in (flags or {}).items() if value is not None}
    told = from_environment(environment)
    place = file or Path(given.get("data_dir") or told.get("data_dir") or DATA_DIR) / FILE
    written = _read(place) if file is not None or place.is_file() else {}
    try:
        return HubSettings.model_validate(_merged(_merged(written, told), given))
    except ValidationError as error:
        raise NotValid(
            f"the hub's settings have mistakes ({place}, {PREFIX}… and flags together): {explain(error)}",
            code="settings_invalid",
        ) from error


def from_environment(environment: Mapping[str, str]) -> dict[str, Any]:
    """The settings among these variables, as they would stand in the file.

    >>> from_environment({"EDGEWISE_HTTP_PORT": "0", "EDGEWISE_OIDC__CLIENT_ID": "hub", "EDGEWISE_HUB": "x"})
    {'http_port': '0', 'oidc': {'client_id': 'hub'}}
    """
    found: dict[str, Any] = {}
    for name, text in sorted(environment.items()):
        if not name.startswith(PREFIX) or not text:
            continue
        path = name.removeprefix(PREFIX).lower().split("__")
        secret = path[-1].endswith("_file") and path[-1] not in FILES
        path = [*path[:-1], path[-1].removesuffix("_file")] if secret else path
        if _known(HubSettings, path):
            _put(found, path, _secret(name, text) if secret else _value(text))
    return found


INNER: dict[str, type[BaseModel]] = {"oidc": OidcSettings, "alerts": AlertSettings}


def _known(model: type[BaseModel], path: list[str]) -> bool:
    if path[0] not in model.model_fields:
        return False
    if path[0] == OPTIONS:
        return len(path) == 2
    return len(path) == 1 or (path[0] in INNER and _known(INNER[path[0]], path[1:]))


def _put(found: dict[str, Any], path: list[str], value: Any) -> None:
    for part in path[:-1]:
        found = found.setdefault(part, {})
    found[path[-1]] = value


def _value(text: str) -> Any:
    """Lists and mappings are written as in YAML; everything else is a text, which its field reads."""
    return yaml.safe_load(text) if text.lstrip()[:1] in ("[", "{") else text


def _secret(name: str, place: str) -> str:
    try:
        return Path(place).read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise NotValid(f"{name} names {place}, which cannot be read: {error}", code="settings_invalid") from error


def _read(place: Path) -> dict[str, Any]:
    try:
        body = place.read_bytes()[: BYTES_MAX + 1]
        if len(body) > BYTES_MAX:
            raise NotValid(f"{place} has more than {BYTES_MAX} bytes; it should hold settings", code="settings_invalid")
        value = yaml.safe_load(body) or {}
    except (OSError, yaml.YAMLError, UnicodeDecodeError) as error:
        raise NotValid(f"{place} cannot be read: {error}", code="settings_invalid") from error
    if not isinstance(value, dict):
        raise NotValid(f"{place} is not a mapping of settings", code="settings_invalid")
    return value


def _merged(under: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Both, where `over` wins field by field."""
    result = dict(under)
    for name, value in over.items():
        old = result.get(name)
        result[name] = _merged(old, value) if isinstance(old, Mapping) and isinstance(value, Mapping) else value
    return result
