"""The doors outside: clock, chance, blobs, link, sources, runtime, keys, bundles; each with an in-memory twin.

The names load on first use: a command that only talks to a hub must start fast, and without numpy or Pillow.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgewise._late import late_names

if TYPE_CHECKING:
    from edgewise.ports._blobs import Blobs, FolderBlobs, MemoryBlobs, checked_pieces
    from edgewise.ports._bound import Bound
    from edgewise.ports._bucket import BucketLimits, open_bucket
    from edgewise.ports._bundle import (
        OpenBundle,
        StoredBundle,
        copied_blobs,
        open_bundle,
        open_manifest,
        pack_bundle,
        read_bundle,
        verify_bundle,
        write_bundle,
    )
    from edgewise.ports._chance import Chance, SeededChance, SystemChance
    from edgewise.ports._clock import Clock, MemoryClock, SystemClock
    from edgewise.ports._credentials import Credentials
    from edgewise.ports._delta_files import Saving, apply_delta, make_delta
    from edgewise.ports._est import fetch_identity, first_certificate, next_certificate, pin_root, split_token
    from edgewise.ports._facts import Fact, Facts, MemoryFacts, SystemFacts, network_kind
    from edgewise.ports._files import disk_error, replace_file, sync_folder
    from edgewise.ports._folder_link import FolderLink
    from edgewise.ports._footprint import Footprint, MemoryFootprint, SystemFootprint, boot_id
    from edgewise.ports._http import LinkDown, Refused, retry_after_s
    from edgewise.ports._isolate import IsolatingRuntime, IsolationRule, apart, can_isolate
    from edgewise.ports._keys import FolderKeys, Keys, MemoryKeys
    from edgewise.ports._large import Large, MemoryLarge, V2Large
    from edgewise.ports._link import HttpLink, HubDoor, Link, MemoryLink
    from edgewise.ports._listen import address, listen
    from edgewise.ports._log_files import LogFiles, MemoryLogFiles, RotatingFiles
    from edgewise.ports._memory_runtime import MemoryRuntime
    from edgewise.ports._norms import NormWalk, norm_sums, read_norms
    from edgewise.ports._objects import ObjectBlobs
    from edgewise.ports._open_source import open_source
    from edgewise.ports._packed import is_packed
    from edgewise.ports._parts import FolderParts, MemoryParts, Part, Parts, owner_name
    from edgewise.ports._patience import TooSlow
    from edgewise.ports._pipeline import Answer, Judged, Pipeline, open_pipeline
    from edgewise.ports._priority import step_aside
    from edgewise.ports._probe import HubProbe, probe_disk, probe_hub
    from edgewise.ports._runtime import OnnxRuntime, Runtime, Session, Tensor
    from edgewise.ports._runtime_settings import PROVIDERS, RuntimeSettings
    from edgewise.ports._safe import OpenedSafe, Safe, free_name, open_safe, read_safe, rotate_key
    from edgewise.ports._sealed_blobs import FOLDERS, SealedBlobs
    from edgewise.ports._signers import make_keys, public_text, read_public_keys, read_signers
    from edgewise.ports._sink import MemorySink, Sink, open_sink
    from edgewise.ports._source import MEDIA_TYPES, FolderSource, Frame, ListSource, Source, await_frame
    from edgewise.ports._source_push import PushSource, QueueFull
    from edgewise.ports._stage import Results
    from edgewise.ports._stick import StickLimits, StickPart, device_part, devices_on, hub_part
    from edgewise.ports._stop import Stop
    from edgewise.ports._supervisor import MemorySupervisor, Supervisor, SystemdSupervisor
    from edgewise.ports._tls_server import TlsFiles, server_context, tls_server_context
    from edgewise.ports._tuf import TufClient, VouchedTarget, local_name, start_trust
    from edgewise.ports._tuf_fetch import Fetcher, HttpFetcher, MemoryFetcher, NotServed
    from edgewise.ports._tuf_link import METADATA_URL, TARGETS_URL, LinkFetcher
    from edgewise.ports._tuf_trusted import RoleState
    from edgewise.ports._tuf_updater import TufBounds
    from edgewise.ports._v2_client import V2Client
    from edgewise.ports._vault import EnvironmentVault, FileVault, MemoryVault, Vault
    from edgewise.ports._vault_tpm import TpmVault
    from edgewise.ports._vet import VetLimits, vet_bundle
    from edgewise.ports._worker import WorkerRuntime, WorkerSession
    from edgewise.ports._worker_process import WorkerLimits
    from edgewise.ports.api import HubApi
    from edgewise.ports.tensors import DECIDE_SUFFIX

__all__ = [
    "DECIDE_SUFFIX",
    "FOLDERS",
    "MEDIA_TYPES",
    "METADATA_URL",
    "PROVIDERS",
    "TARGETS_URL",
    "Answer",
    "Blobs",
    "Bound",
    "BucketLimits",
    "Chance",
    "Clock",
    "Credentials",
    "EnvironmentVault",
    "Fact",
    "Facts",
    "Fetcher",
    "FileVault",
    "FolderBlobs",
    "FolderKeys",
    "FolderLink",
    "FolderParts",
    "FolderSource",
    "Footprint",
    "Frame",
    "HttpFetcher",
    "HttpLink",
    "HubApi",
    "HubDoor",
    "HubProbe",
    "IsolatingRuntime",
    "IsolationRule",
    "Judged",
    "Keys",
    "Large",
    "Link",
    "LinkDown",
    "LinkFetcher",
    "ListSource",
    "LogFiles",
    "MemoryBlobs",
    "MemoryClock",
    "MemoryFacts",
    "MemoryFetcher",
    "MemoryFootprint",
    "MemoryKeys",
    "MemoryLarge",
    "MemoryLink",
    "MemoryLogFiles",
    "MemoryParts",
    "MemoryRuntime",
    "MemorySink",
    "MemorySupervisor",
    "MemoryVault",
    "NormWalk",
    "NotServed",
    "ObjectBlobs",
    "OnnxRuntime",
    "OpenBundle",
    "OpenedSafe",
    "Part",
    "Parts",
    "Pipeline",
    "PushSource",
    "QueueFull",
    "Refused",
    "Results",
    "RoleState",
    "RotatingFiles",
    "Runtime",
    "RuntimeSettings",
    "Safe",
    "Saving",
    "SealedBlobs",
    "SeededChance",
    "Session",
    "Sink",
    "Source",
    "StickLimits",
    "StickPart",
    "Stop",
    "StoredBundle",
    "Supervisor",
    "SystemChance",
    "SystemClock",
    "SystemFacts",
    "SystemFootprint",
    "SystemdSupervisor",
    "Tensor",
    "TlsFiles",
    "TooSlow",
    "TpmVault",
    "TufBounds",
    "TufClient",
    "V2Client",
    "V2Large",
    "Vault",
    "VetLimits",
    "VouchedTarget",
    "WorkerLimits",
    "WorkerRuntime",
    "WorkerSession",
    "address",
    "apart",
    "apply_delta",
    "await_frame",
    "boot_id",
    "can_isolate",
    "checked_pieces",
    "copied_blobs",
    "device_part",
    "devices_on",
    "disk_error",
    "fetch_identity",
    "first_certificate",
    "free_name",
    "hub_part",
    "is_packed",
    "listen",
    "local_name",
    "make_delta",
    "make_keys",
    "network_kind",
    "next_certificate",
    "norm_sums",
    "open_bucket",
    "open_bundle",
    "open_manifest",
    "open_pipeline",
    "open_safe",
    "open_sink",
    "open_source",
    "owner_name",
    "pack_bundle",
    "pin_root",
    "probe_disk",
    "probe_hub",
    "public_text",
    "read_bundle",
    "read_norms",
    "read_public_keys",
    "read_safe",
    "read_signers",
    "replace_file",
    "retry_after_s",
    "rotate_key",
    "server_context",
    "split_token",
    "start_trust",
    "step_aside",
    "sync_folder",
    "tls_server_context",
    "verify_bundle",
    "vet_bundle",
    "write_bundle",
]

_HOMES = {
    "_blobs": ("Blobs", "FolderBlobs", "MemoryBlobs", "checked_pieces"),
    "_bound": ("Bound",),
    "_bucket": ("BucketLimits", "open_bucket"),
    "_bundle": (
        "OpenBundle",
        "StoredBundle",
        "copied_blobs",
        "open_bundle",
        "open_manifest",
        "pack_bundle",
        "read_bundle",
        "verify_bundle",
        "write_bundle",
    ),
    "_chance": ("Chance", "SeededChance", "SystemChance"),
    "_clock": ("Clock", "MemoryClock", "SystemClock"),
    "_credentials": ("Credentials",),
    "_est": ("fetch_identity", "first_certificate", "next_certificate", "pin_root", "split_token"),
    "_facts": ("Fact", "Facts", "MemoryFacts", "SystemFacts", "network_kind"),
    "_delta_files": ("Saving", "apply_delta", "make_delta"),
    "_files": ("disk_error", "replace_file", "sync_folder"),
    "_folder_link": ("FolderLink",),
    "_isolate": ("IsolatingRuntime", "IsolationRule", "apart", "can_isolate"),
    "_footprint": ("Footprint", "MemoryFootprint", "SystemFootprint", "boot_id"),
    "_keys": ("FolderKeys", "Keys", "MemoryKeys"),
    "_http": ("LinkDown", "Refused", "retry_after_s"),
    "_large": ("Large", "MemoryLarge", "V2Large"),
    "_link": ("HttpLink", "HubDoor", "Link", "MemoryLink"),
    "_log_files": ("LogFiles", "MemoryLogFiles", "RotatingFiles"),
    "_listen": ("address", "listen"),
    "_objects": ("ObjectBlobs",),
    "_open_source": ("open_source",),
    "_packed": ("is_packed",),
    "_parts": ("FolderParts", "MemoryParts", "Part", "Parts", "owner_name"),
    "_norms": ("NormWalk", "norm_sums", "read_norms"),
    "_pipeline": ("Answer", "Judged", "Pipeline", "open_pipeline"),
    "_memory_runtime": ("MemoryRuntime",),
    "_priority": ("step_aside",),
    "_probe": ("HubProbe", "probe_disk", "probe_hub"),
    "_runtime": ("OnnxRuntime", "Runtime", "Session", "Tensor"),
    "_runtime_settings": ("PROVIDERS", "RuntimeSettings"),
    "_safe": ("OpenedSafe", "Safe", "free_name", "open_safe", "read_safe", "rotate_key"),
    "_sealed_blobs": ("FOLDERS", "SealedBlobs"),
    "_signers": ("make_keys", "public_text", "read_public_keys", "read_signers"),
    "_sink": ("MemorySink", "Sink", "open_sink"),
    "_source": ("MEDIA_TYPES", "FolderSource", "Frame", "ListSource", "Source", "await_frame"),
    "_source_push": ("PushSource", "QueueFull"),
    "_stage": ("Results",),
    "_stick": ("StickLimits", "StickPart", "device_part", "devices_on", "hub_part"),
    "_tls_server": ("TlsFiles", "server_context", "tls_server_context"),
    "_stop": ("Stop",),
    "_supervisor": ("MemorySupervisor", "Supervisor", "SystemdSupervisor"),
    "_tuf": ("TufClient", "VouchedTarget", "local_name", "start_trust"),
    "_tuf_fetch": ("Fetcher", "HttpFetcher", "MemoryFetcher", "NotServed"),
    "_patience": ("TooSlow",),
    "_tuf_link": ("METADATA_URL", "TARGETS_URL", "LinkFetcher"),
    "_tuf_trusted": ("RoleState",),
    "_tuf_updater": ("TufBounds",),
    "tensors": ("DECIDE_SUFFIX",),
    "_vault": ("EnvironmentVault", "FileVault", "MemoryVault", "Vault"),
    "_vault_tpm": ("TpmVault",),
    "_v2_client": ("V2Client",),
    "_vet": ("VetLimits", "vet_bundle"),
    "_worker": ("WorkerRuntime", "WorkerSession"),
    "_worker_process": ("WorkerLimits",),
    "api": ("HubApi",),
}

__getattr__ = late_names(__name__, _HOMES)
