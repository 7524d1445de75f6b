"""A device runs the variant it was assigned, if the release names it; updates and reverts stay with the variant."""

from __future__ import annotations

import json

from edgewise.edge.update import Phase, UpdateLimits
from edgewise.wire import canonical, digest


def settle(bench, updater, envelope):
    bench.accept(updater, envelope)
    return updater.step(bench.link(), bench.clock.now())


def signed(bench, seed):
    """A release in three variants, each with a network of its own."""
    return bench.sign(bench.bundle(seed), fp16=bench.bundle(seed + 100), int8=bench.bundle(seed + 200))


def net(bench, bundle) -> str:
    return json.loads(bench.manifests[bundle])["blobs"]["net"]["sha256"]


def device(bench):
    return bench.updater(limits=UpdateLimits(delta_bytes_min=0))


def test_the_variant_assigned_is_installed_and_nothing_of_the_others_is_fetched(bench):
    one = signed(bench, 1)
    updater = device(bench)
    settle(bench, updater, bench.assign(one, bundle=one.bundles["int8"]))
    assert (updater.phase, updater.running.bundle) == (Phase.COMMITTED, one.bundles["int8"])
    assert {name for name, _ in bench.hub.fetched} == {net(bench, one.bundles["int8"])}
    assert bench.updater().running.bundle == one.bundles["int8"], "after a restart, offline"


def test_a_bundle_that_the_release_does_not_name_is_refused_before_any_of_it_is_fetched(bench):
    one, stranger = signed(bench, 1), bench.bundle(7)
    updater = device(bench)
    settle(bench, updater, bench.assign(one, bundle=stranger))
    assert updater.running is None
    assert updater.state.last_failure is not None
    assert f"is not in release {one.id}" in updater.state.last_failure
    assert bench.hub.fetched == []


def test_the_same_variant_of_the_next_release_comes_as_a_delta_to_this_one(bench):
    one, two = signed(bench, 1), signed(bench, 2)
    updater = device(bench)
    settle(bench, updater, bench.assign(one, bundle=one.bundles["int8"]))
    settle(bench, updater, bench.assign(two, bundle=two.bundles["int8"]))
    assert (updater.phase, updater.running.bundle) == (Phase.COMMITTED, two.bundles["int8"])
    assert bench.hub.deltas_asked == [(net(bench, two.bundles["int8"]), net(bench, one.bundles["int8"]))]


def test_a_revert_goes_back_to_the_variant_that_ran_there_and_to_no_other(bench):
    one, two = signed(bench, 1), signed(bench, 2)
    updater = device(bench)
    settle(bench, updater, bench.assign(one, bundle=one.bundles["int8"]))
    settle(bench, updater, bench.assign(two, bundle=two.bundles["fp16"]))
    settle(bench, updater, bench.assign(one, kind="revert", bundle=one.bundles["fp32"]))
    assert updater.running.bundle == two.bundles["fp16"], "it never ran that one"
    settle(bench, updater, bench.assign(one, kind="revert", bundle=one.bundles["int8"]))
    assert (updater.phase, updater.running.bundle) == (Phase.COMMITTED, one.bundles["int8"])


def test_a_variant_for_a_site_runs_there_and_is_refused_elsewhere_before_any_of_it_is_fetched(bench):
    base = bench.bundle(1)
    manifest = json.loads(bench.manifests[base])
    manifest["provenance"] |= {"site": "north", "variant_of": base}
    data = canonical(manifest)
    bench.manifests[digest(data)] = data
    release = bench.sign(base, **{"site:north": digest(data)})
    for site in ("south", None):
        updater = bench.updater(site=site)
        settle(bench, updater, bench.assign(release, bundle=digest(data)))
        assert updater.running is None
        assert updater.state.last_failure is not None
        assert "it has the statistics of site north" in updater.state.last_failure
        assert bench.hub.fetched == []
    updater = bench.updater(site="north")
    settle(bench, updater, bench.assign(release, bundle=digest(data)))
    assert (updater.phase, updater.running.bundle) == (Phase.COMMITTED, digest(data))
