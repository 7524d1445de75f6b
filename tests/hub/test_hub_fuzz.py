"""Whatever is sent to a route: an answer that the OpenAPI document describes, never a mistake of the hub's own."""

from __future__ import annotations

import warnings

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from edgewise.hub import create_app, create_device_app
from edgewise.hub.api.openapi import device_document
from edgewise.hub.store import tables

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of its own dependencies, at import
    import schemathesis
    from schemathesis.checks import not_a_server_error
    from schemathesis.specs.openapi.checks import response_schema_conformance, status_code_conformance

from edgewise.trust import pem_of
from edgewise.wire import MEDIA_TYPE

CHECKS = [not_a_server_error, response_schema_conformance, status_code_conformance]


@schemathesis.serializer(MEDIA_TYPE, "application/pkcs10", "application/partial-upload")
def as_it_is(_context, value):
    return value if isinstance(value, bytes) else str(value).encode()


@pytest.fixture
def full_yard(make_yard):
    """A hub with a bit of everything."""
    yard = make_yard()
    device = yard.enrol("one")
    device.send(device.segment(1, device.sample(), device.sample()))
    yard.bring_in(*(("north", str(number), "", "pit") for number in range(6)))
    yard.hub.tick()
    return yard


def real_names(yard) -> dict[str, str]:
    """Names of things that are there, so that handlers get past "there is no such thing"."""
    sample, order = yard.rows(tables.samples)[0], yard.rows(tables.orders)[0]
    names = {"use_case": "press", "name": "press", "site": "north", "device": "one", "worker": "w1"}
    return names | {"sample": sample["id"], "blob": sample["blob"], "digest": sample["blob"], "order": order["id"]}


def make_real(case, known: dict[str, str]) -> None:
    for part in (case.path_parameters, case.query, case.body):
        if isinstance(part, dict):
            part.update({key: value for key, value in known.items() if key in part})


@pytest.mark.parametrize("role", ["admin", "worker"])
def test_no_input_breaks_the_hub(full_yard, role):
    schema = schemathesis.openapi.from_asgi("/openapi.json", create_app(full_yard.hub))
    assert fuzz_all(schema, full_yard, role, 3 if role == "admin" else 1) > 40


@pytest.mark.parametrize("who", ["device", "nobody"])
def test_no_input_breaks_what_devices_meet(full_yard, who):
    hub = full_yard.hub
    app = create_device_app(hub)
    made = hub.authority.device_certificate(full_yard.key_of("one"), site="north", device="one", now=hub.now())

    async def connected(scope, receive, send):
        if scope["type"] == "http" and who == "device":
            scope["extensions"] = {"tls": {"client_cert_chain": [pem_of(made).decode()]}}
        await app(scope, receive, send)

    schema = schemathesis.openapi.from_dict(device_document("0"))
    schema.app = connected
    assert fuzz_all(schema, full_yard, "worker", 3) >= 10


def fuzz_all(schema, full_yard, role, examples):
    headers = {"Authorization": f"Bearer {full_yard.hub.tokens.text(role)}"}
    known = real_names(full_yard)
    count = 0
    for result in schema.get_all_operations():
        operation = result.ok()

        @settings(
            max_examples=examples,
            deadline=None,
            database=None,
            derandomize=True,
            phases=[Phase.explicit, Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(case=operation.as_strategy(), at_home=st.booleans())
        def fuzz(case, at_home):
            if at_home:
                make_real(case, known)
            case.call_and_validate(headers=headers, checks=CHECKS)

        fuzz()
        count += 1
    return count
