"""The promises of facts, kept by the real and the in-memory part."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgewise.ports import Facts, MemoryFacts, SystemFacts, network_kind

HEAD = "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\n"


@pytest.fixture(params=["system", "memory"])
def facts(request, tmp_path) -> Facts:
    if request.param == "system":
        return SystemFacts(tmp_path, {"dock": "north", "network_metered": False})
    return MemoryFacts(dock="north", network_metered=False, load_share=0.1)


def test_facts_are_plain_values_under_plain_names(facts):
    seen = facts.read()
    assert seen["dock"] == "north"
    assert all(isinstance(value, str | float | int | bool) for value in seen.values())
    assert all(name.replace("_", "").isalnum() for name in seen)


def test_what_is_read_is_the_readers_own(facts):
    seen = dict(facts.read())
    seen["dock"] = "south"
    assert facts.read()["dock"] == "north"


def test_what_a_person_states_wins(facts):
    assert facts.read()["network_metered"] is False


def test_the_system_tells_disk_and_load(tmp_path):
    seen = SystemFacts(tmp_path).read()
    assert seen["disk_free_mb"] > 0
    assert seen["idle"] == (seen["load_share"] <= 0.3) or seen["load_share"] == 0.3
    assert 0 <= seen.get("battery_percent", 50) <= 100


def test_what_the_system_cannot_tell_is_left_out():
    assert "disk_free_mb" not in SystemFacts(Path("/there/is/no/such/folder")).read()


@pytest.mark.parametrize(
    ("routes", "kind"),
    [
        ("", None),
        ("eth0\t0000A8C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\n", None),
        ("eth0\t00000000\t0100A8C0\t0003\t0\t0\t100\t0\n", "wired"),
        ("enp3s0\t00000000\t0100A8C0\t0003\t0\t0\t100\t0\n", "wired"),
        ("wwan0\t00000000\t0\t0003\t0\t0\t700\t0\nwlp2s0\t00000000\t0\t0003\t0\t0\t600\t0\n", "wifi"),
        ("wwan0\t00000000\t0\t0003\t0\t0\t700\t0\n", "mobile"),
        ("tun0\t00000000\t0\t0003\t0\t0\t0\t0\n", "other"),
    ],
    ids=["empty", "no default", "eth", "predictable name", "lowest metric wins", "mobile", "tunnel"],
)
def test_the_kind_of_network_is_that_of_the_default_route(routes, kind):
    assert network_kind(HEAD + routes) == kind
