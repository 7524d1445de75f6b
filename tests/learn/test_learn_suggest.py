"""What a bundle says of samples that wait: all of them once, the unreadable passed over, ended when not wanted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from edgewise.learn import Cancelled, train
from edgewise.learn._suggest import suggest
from edgewise.ports import MemoryBlobs, StoredBundle
from edgewise.wire import NotValid, Scored, ToScore


@pytest.fixture(scope="module")
def bundle(world: Any) -> StoredBundle:
    made = train(world.surfaces(16), now=world.now, seed=1, config={"architecture": "small", "steps": 150})
    return StoredBundle(manifest=made.manifest, digest=made.digest, blobs=made.blobs)


class Hub:
    """Hands out samples in pages and keeps what it is told, as the hub does."""

    def __init__(self, samples: Sequence[ToScore], page: int) -> None:
        self.left, self.page, self.told = list(samples), page, dict[str, Scored]()
        self.unreadable: list[str] = []

    def ask(self, said: Sequence[Scored], unreadable: Sequence[str]) -> list[ToScore]:
        self.told |= {one.sample: one for one in said}
        self.unreadable += unreadable
        return [one for one in self.left if one.sample not in {*self.told, *self.unreadable}][: self.page]


def test_all_are_looked_at_once_and_what_cannot_be_read_is_named(bundle: StoredBundle, world: Any) -> None:
    blobs = MemoryBlobs()
    seen = world.surfaces(6, start=500)
    waiting = [
        ToScore(sample=f"{number:032x}", blob=blobs.put(one.read()), media_type="image/png")
        for number, one in enumerate(seen)
    ]
    broken = ToScore(sample="e" * 32, blob=blobs.put(b"no picture"), media_type="image/png")
    gone = ToScore(sample="d" * 32, blob="0" * 64, media_type="image/png")
    hub = Hub([broken, *waiting, gone], page=5)
    assert suggest(bundle, hub.ask, blobs.get, lambda _count: None) == len(waiting)
    assert set(hub.told) == {one.sample for one in waiting}
    assert hub.unreadable == [broken.sample, gone.sample]
    right = sum(hub.told[one.sample].label == sample.label for one, sample in zip(waiting, seen, strict=True))
    assert right >= 0.8 * len(seen)
    assert all(0 <= one.margin <= one.confidence <= 1 for one in hub.told.values())


def test_a_hub_that_asks_again_about_what_was_said_is_no_endless_work(bundle: StoredBundle) -> None:
    again = ToScore(sample="e" * 32, blob="0" * 64, media_type="image/png")
    with pytest.raises(NotValid, match="asks again about sample eee"):
        suggest(bundle, lambda _said, _unreadable: [again], MemoryBlobs().get, lambda _count: None)


def test_it_ends_when_it_is_not_wanted(bundle: StoredBundle, world: Any) -> None:
    blobs = MemoryBlobs()
    waiting = [
        ToScore(sample=f"{n:032x}", blob=blobs.put(world.surface("none", n)), media_type="image/png") for n in range(9)
    ]

    def stop(count: int) -> None:
        if count == 4:
            raise Cancelled

    with pytest.raises(Cancelled):
        suggest(bundle, Hub(waiting, 9).ask, blobs.get, stop)
