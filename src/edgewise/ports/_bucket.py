"""A bucket of any cloud by its URL and the options of obstore, looked at once before anything is stored in it."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import obstore
from obstore.exceptions import (
    AlreadyExistsError,
    BaseError,
    NotSupportedError,
    PermissionDeniedError,
    PreconditionError,
    UnauthenticatedError,
    UnknownConfigurationKeyError,
)
from obstore.store import LocalStore, MemoryStore, from_url

from edgewise.ports._chance import Chance, SystemChance
from edgewise.ports._objects import ObjectBlobs, first_line
from edgewise.wire import NotValid

if TYPE_CHECKING:
    from obstore.store import ObjectStore

# Schemes of a URL, and what stands behind them.
CLOUDS = {
    **dict.fromkeys(("s3", "s3a"), "S3 or a service like it"),
    "gs": "Google Cloud Storage",
    **dict.fromkeys(("az", "azure", "abfs", "abfss", "adl"), "Azure Blob Storage"),
    "https": "S3, R2 or Azure by the address of the bucket",
    "file": "a folder",
}
# Options that belong to the connection rather than to the cloud; the rest is the cloud's own.
CONNECTION = frozenset(
    {
        "allow_http",
        "allow_invalid_certificates",
        "connect_timeout",
        "pool_idle_timeout",
        "pool_max_idle_per_host",
        "proxy_ca_certificate",
        "proxy_excludes",
        "proxy_url",
        "randomize_addresses",
        "read_timeout",
        "root_certificate",
        "timeout",
        "user_agent",
    }
)
SWITCHES = frozenset({"allow_http", "allow_invalid_certificates", "randomize_addresses"})


@dataclass(frozen=True, kw_only=True, slots=True)
class BucketLimits:
    """How long a bucket may take before it counts as not reachable."""

    connect_s: float = 5
    read_s: float = 30  # between two pieces of an answer
    request_s: float = 600  # of one whole request: a large content over a slow link
    tries_max: int = 3
    wait_s_max: float = 20  # for all tries of one request; whoever asked is told then


def open_bucket(
    url: str,
    options: Mapping[str, str] | None = None,
    *,
    limits: BucketLimits | None = None,
    chance: Chance | None = None,
    probe: bool = True,
) -> ObjectBlobs:
    """The blobs of a bucket, once it was seen to keep its promises.

    Args:
        url: ``s3://bucket/prefix``, ``gs://…``, ``az://container/prefix``, ``file:///folder``.
        options: of obstore, such as ``endpoint`` or ``access_key_id``; what is not given it reads from the
            cloud's usual variables (``AWS_ACCESS_KEY_ID`` …) or asks the machine for.
        probe: write, read and delete one small object; without it nothing is sent.
    Raises:
        NotValid: the URL or an option cannot be, the bucket is not there, its keys are refused or it ignores
            put-if-absent; nobody but a person changes that, and the text says what.
    """
    bounds, chosen = limits or BucketLimits(), dict(options or {})
    store = _store(url, chosen, bounds)
    if probe and not isinstance(store, LocalStore):
        _probe(store, url, chance or SystemChance())
    return ObjectBlobs(store)


def _store(url: str, options: dict[str, str], limits: BucketLimits) -> ObjectStore:
    scheme = urlsplit(url).scheme
    if scheme not in CLOUDS:
        known = ", ".join(f"{name}://" for name in CLOUDS)
        raise _invalid(url, f"begins with none of {known}; write for example s3://bucket/prefix")
    connection: dict[str, Any] = {
        "connect_timeout": timedelta(seconds=limits.connect_s),
        "read_timeout": timedelta(seconds=limits.read_s),
        "timeout": timedelta(seconds=limits.request_s),
    }
    connection |= {name: _switch(name, text) for name, text in options.items() if name in CONNECTION}
    cloud = {name: text for name, text in options.items() if name not in CONNECTION}
    if cloud.get("endpoint", "").startswith("http://"):
        connection.setdefault("allow_http", True)  # whoever writes http means it
    retries = {"max_retries": limits.tries_max - 1, "retry_timeout": timedelta(seconds=limits.wait_s_max)}
    try:
        if scheme == "file":
            return from_url(url, mkdir=True)
        made: Any = from_url  # its types are those of each cloud; what is not one's own it refuses itself
        store: ObjectStore = made(url, config=cloud or None, client_options=connection, retry_config=retries)
    except UnknownConfigurationKeyError as error:
        raise _invalid(url, f"does not take this option: {first_line(error)}") from error
    except (BaseError, ValueError, TypeError, OSError) as error:
        raise _invalid(url, f"cannot be used: {first_line(error)}; see docs/storage.md for its options") from error
    if not hasattr(store, "config") or isinstance(store, MemoryStore):
        raise _invalid(url, "is the address of no bucket; write for example s3://bucket/prefix")
    return store


def _switch(name: str, text: str) -> Any:
    if name not in SWITCHES:
        return text
    if text.lower() not in ("true", "false"):
        raise NotValid(f"object option {name} is {text!r}, needs to be true or false", code="objects_invalid")
    return text.lower() == "true"


def _probe(store: ObjectStore, url: str, chance: Chance) -> None:
    """Put one small object twice, each time only if it is absent: the second has to fail.

    Several hubs and the lake's commits rely on that; a service that ignores the condition overwrites in silence.
    """
    name = f"probe/{chance.id()}"
    try:
        obstore.put(store, name, b"edgewise", mode="create", use_multipart=False)
        if _is_put_again(store, name):
            raise _invalid(
                url,
                "overwrites an object that was to be put only if absent (If-None-Match), so two hubs could overwrite "
                "each other; use a service that honours it (docs/storage.md names some)",
            )
        if bytes(obstore.get(store, name).bytes()) != b"edgewise":
            raise _invalid(url, "gave other bytes than were put; check what stands between it and the hub")
    except FileNotFoundError as error:
        raise _invalid(url, "does not exist; make the bucket, or correct its name") from error
    except (PermissionDeniedError, UnauthenticatedError) as error:
        raise _invalid(
            url,
            "refuses these keys; check access_key_id and secret_access_key (or what your cloud calls them), and that "
            "they may read, write, list and delete there",
        ) from error
    except NotSupportedError as error:
        raise _invalid(url, f"cannot put an object only if it is absent: {first_line(error)}") from error
    except (BaseError, OSError) as error:
        raise _invalid(url, f"does not answer: {first_line(error)}; check its address, the network and keys") from error
    finally:
        with contextlib.suppress(BaseError, OSError):  # one that stays has 8 bytes and stands in nobody's way
            obstore.delete(store, name)


def _is_put_again(store: ObjectStore, name: str) -> bool:
    try:
        obstore.put(store, name, b"again", mode="create", use_multipart=False)
    except (AlreadyExistsError, PreconditionError):
        return False
    return True


def _invalid(url: str, what: str) -> NotValid:
    return NotValid(f"the object store {url} {what}", code="objects_invalid")
