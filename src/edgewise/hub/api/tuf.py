"""Routes of the release repository: its files as a static server would have them, and what the keepers of keys hand in.

Who may publish is decided by signatures; the token only keeps strangers from filling the disk.
"""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Response
from starlette.routing import Route

from edgewise.hub import repository, repository_view, scope
from edgewise.hub._hub import Hub
from edgewise.hub.access import Action
from edgewise.hub.api.auth import Administrator, Reader, Signer, ThisHub
from edgewise.hub.api.device import BYTES, GET_NEEDS, JSON, Answer, Call, RawRoute, byte_range
from edgewise.hub.api.models import PublishedOut, PublishIn
from edgewise.hub.api.problems import responses
from edgewise.hub.online_keys import ASSIGNMENT
from edgewise.trust.roles import plain_key, public_key, use_case_of
from edgewise.wire import plain

router = APIRouter()
TARGETS_OF = "targets/"
MOVING = "metadata/timestamp.json"  # the only file whose bytes change under one name


@router.get("/trust", tags=["releases"], responses=responses())
def get_trust(hub: ThisHub, _who: Reader) -> dict[str, Any]:
    """The release repository: roles with versions, expiry and keys, what waits for signatures, the hub's own keys."""
    return repository_view.state(hub.store, hub.online)


@router.post("/trust/publish", tags=["releases"], status_code=201, responses=responses(409))
def publish(wish: PublishIn, hub: ThisHub, who: Signer) -> PublishedOut:
    """Hand in signed metadata and new target files; published once every document has its signatures."""
    with hub.store.read() as connection:
        if not repository.newest_metadata(connection):
            who.check(Action.ADMINISTER)
        for role in wish.documents:
            scope.check_whole(connection, who, use_case_of(role), f"the role {role}")
    documents = {role: text.encode() for role, text in wish.documents.items()}
    files = {path: text.encode() for path, text in wish.files.items()}
    done = hub.publish(documents, files, who=who.name, why=wish.why)
    return PublishedOut(
        published=dict(done.roles),
        waiting={role: found.missing for role, found in done.waiting.items()},
        releases=list(done.releases),
        withdrawn=list(done.withdrawn),
    )


@router.get("/trust/waiting/{role}", tags=["releases"], responses=responses(404))
def waiting(role: str, hub: ThisHub, _who: Signer) -> Response:
    """A document that lacks signatures, as it was handed in."""
    return Response(repository_view.waiting_document(hub.store, role), media_type=JSON)


@router.post("/trust/online-keys/{name}", tags=["releases"], status_code=201, responses=responses())
def make_online_key(name: str, hub: ThisHub, who: Administrator) -> dict[str, Any]:
    """One more online key (snapshot, timestamp or assignment); it signs once the offline roles name it."""
    who.check_everywhere("whom all devices trust")
    key = hub.online.make(name)
    return plain(key.public) if name == ASSIGNMENT else plain_key(public_key(key))


def file(call: Call) -> Answer:
    person = call.device_or_person(*GET_NEEDS)
    if person is not None and call.name.startswith(TARGETS_OF) and call.name.count("/") > 1:
        with call.hub.store.read() as connection:
            scope.check_some(connection, person, call.name.split("/")[1], f"file {call.name[:200]}")
    data = repository_view.need_file(call.hub.store, call.name)
    held = "no-cache" if call.name == MOVING else "private, max-age=31536000, immutable"
    media_type = JSON if call.name.endswith(".json") else BYTES
    headers = {"Accept-Ranges": "bytes", "Cache-Control": held}
    start, end = byte_range(call.headers.get("range"), len(data))
    if (start, end) == (0, len(data)):
        return Answer(body=data, media_type=media_type, headers=headers)
    headers["Content-Range"] = f"bytes {start}-{end - 1}/{len(data)}"
    return Answer(status=206, body=data[start:end], media_type=media_type, headers=headers)


def routes(hub: Hub, *, prefix: str, for_devices: bool) -> list[Route]:
    """The repository's files below this prefix."""
    app = RawRoute(hub, file, for_devices=for_devices, name="path")
    return [Route(f"{prefix}/tuf/{{path:path}}", endpoint=app, methods=["GET"], include_in_schema=False)]
