"""Updates as files: the new version comes back byte for byte, or nothing appears and one sentence says why."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import two_versions
from edgewise.ports import apply_delta, make_delta, pack_bundle, read_bundle, write_bundle
from edgewise.wire import NotTrusted, NotValid, digest


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Path:
    """Bundles and plain networks in versions 1 to 3, and a delta from 1 to 2 of each kind."""
    folder = tmp_path_factory.mktemp("versions")
    for version in (1, 2, 3):
        made = two_versions.bundle(version)
        write_bundle(folder / f"bundle{version}", made.manifest, made.blobs)
        (folder / f"net{version}.onnx").write_bytes(two_versions.network(version))
    make_delta(folder / "bundle1", folder / "bundle2", folder / "bundle.ewd")
    make_delta(folder / "net1.onnx", folder / "net2.onnx", folder / "net.ewd")
    return folder


def whole(path: Path) -> str:
    return read_bundle(path).digest if path.is_dir() else digest(path.read_bytes())


KINDS = pytest.mark.parametrize(("kind", "end"), [("bundle", ""), ("net", ".onnx")], ids=["bundle", "onnx"])


@KINDS
def test_the_new_version_comes_back_and_the_delta_is_small(world, tmp_path, kind, end):
    old, new, file = world / f"{kind}1{end}", world / f"{kind}2{end}", world / f"{kind}.ewd"
    out = tmp_path / f"out{end}"
    assert apply_delta(old, file, out) == whole(new) == whole(out)
    assert file.stat().st_size < 0.08 * len(two_versions.network(2))
    assert [path.name for path in tmp_path.iterdir()] == [out.name]


def test_the_savings_name_every_part(world, tmp_path):
    savings = {one.name: one for one in make_delta(world / "bundle1", world / "bundle2", tmp_path / "d")}
    assert savings["table"].delta_bytes == 0
    assert 0 < savings["net"].delta_bytes < 0.08 * savings["net"].size_bytes
    assert sum(one.delta_bytes for one in savings.values()) == (tmp_path / "d").stat().st_size


@KINDS
def test_another_base_is_refused(world, tmp_path, kind, end):
    with pytest.raises(NotTrusted) as caught:
        apply_delta(world / f"{kind}3{end}", world / f"{kind}.ewd", tmp_path / "out")
    assert caught.value.code == "delta_wrong_base"
    assert list(tmp_path.iterdir()) == []


@KINDS
def test_no_flipped_bit_and_no_cut_makes_anything(world, tmp_path, kind, end):
    data = (world / f"{kind}.ewd").read_bytes()
    places = sorted({*range(3, 60), *range(60, len(data), max(1, len(data) // 40)), len(data) - 1})
    for place in places:
        changed = bytearray(data)
        changed[place] ^= 1 << place % 8
        for damaged in (bytes(changed), data[:place]):
            (tmp_path / "damaged").write_bytes(damaged)
            with pytest.raises((NotTrusted, NotValid)):
                apply_delta(world / f"{kind}1{end}", tmp_path / "damaged", tmp_path / "out")
            assert [path.name for path in tmp_path.iterdir()] == ["damaged"]


@KINDS
def test_what_exists_is_never_replaced(world, tmp_path, kind, end):
    (tmp_path / "out").write_text("mine")
    with pytest.raises(NotValid, match="exists"):
        apply_delta(world / f"{kind}1{end}", world / f"{kind}.ewd", tmp_path / "out")
    with pytest.raises(NotValid, match="exists"):
        make_delta(world / f"{kind}1{end}", world / f"{kind}2{end}", tmp_path / "out")
    assert (tmp_path / "out").read_text() == "mine"


def test_packed_bundles_are_taken_as_well(world, tmp_path):
    for version in (1, 2):
        pack_bundle(world / f"bundle{version}", tmp_path / f"{version}.zip")
    make_delta(tmp_path / "1.zip", tmp_path / "2.zip", tmp_path / "d")
    assert (tmp_path / "d").read_bytes() == (world / "bundle.ewd").read_bytes()
    assert apply_delta(tmp_path / "1.zip", tmp_path / "d", tmp_path / "out") == whole(world / "bundle2")


def test_two_of_a_kind_are_needed(world, tmp_path):
    with pytest.raises(NotValid, match="give two of a kind"):
        make_delta(world / "bundle1", world / "net2.onnx", tmp_path / "out")
    with pytest.raises(NotValid, match="is a bundle"):
        apply_delta(world / "bundle1", world / "net.ewd", tmp_path / "out")
    with pytest.raises(NotValid, match="is no bundle"):
        apply_delta(world / "net1.onnx", world / "bundle.ewd", tmp_path / "out")


def test_a_blob_without_a_predecessor_is_sent_packed(world, tmp_path):
    made = two_versions.bundle(2)
    manifest = made.manifest.model_copy(
        update={
            "blobs": {"other": made.manifest.blobs["net"]},
            "graphs": (made.manifest.graphs[0].model_copy(update={"blob": "other"}),),
        }
    )
    name = write_bundle(tmp_path / "new", manifest, made.blobs)
    make_delta(world / "bundle1", tmp_path / "new", tmp_path / "d")
    assert apply_delta(world / "bundle1", tmp_path / "d", tmp_path / "out") == name


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-m", "edgewise", "bundle", *map(str, arguments)]
    return subprocess.run(line, capture_output=True, text=True, timeout=120, check=False, env={**os.environ})


def test_the_commands_print_sizes_and_exit_codes(world, tmp_path):
    delta, out = tmp_path / "d", tmp_path / "out"
    made = run("delta", world / "bundle1", world / "bundle2", "-o", delta)
    assert made.returncode == 0, made.stderr
    assert all(word in made.stdout for word in ("net", "unchanged", "manifest", "percent", str(delta.stat().st_size)))
    assert run("apply", world / "bundle1", delta, "-o", out).stdout.strip().endswith(whole(world / "bundle2"))
    again = run("apply", world / "bundle1", delta, "-o", out)
    wrong = run("apply", world / "bundle3", delta, "-o", tmp_path / "x")
    missing = run("apply", world / "bundle1", tmp_path / "nothing", "-o", tmp_path / "x")
    delta.write_bytes(delta.read_bytes()[:-7])
    cut = run("apply", world / "bundle1", delta, "-o", tmp_path / "x")
    assert [one.returncode for one in (again, wrong, missing, cut)] == [2, 3, 2, 3]
    for one in (again, wrong, missing, cut):
        assert len(one.stderr.strip().splitlines()) == 1, one.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["d", "out"]


@pytest.mark.skipif(not Path("/dev/full").exists() or os.geteuid() != 0, reason="needs a small file system")
def test_a_full_disk_is_not_now_and_leaves_nothing(world, tmp_path):
    place = tmp_path / "small"
    place.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", place], check=False)
    if mounted.returncode:
        pytest.skip("a small file system cannot be mounted here")
    try:
        done = run("apply", world / "net1.onnx", world / "net.ewd", "-o", place / "out")
        assert done.returncode == 4, done.stderr
        assert "no space left" in done.stderr
        assert list(place.iterdir()) == []
    finally:
        subprocess.run(["umount", place], check=True)
        shutil.rmtree(place, ignore_errors=True)
