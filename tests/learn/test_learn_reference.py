"""A trained bundle carries what its inputs and embeddings are like in training."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np

from edgewise.learn import read_dataset, train
from edgewise.learn._reference import reference_of
from edgewise.learn._trainer import Fitted
from edgewise.ports import MemoryRuntime, OnnxRuntime
from faulty_networks import network


def fitted(probe: np.ndarray, embedding: str | None) -> Fitted:
    values: dict[str, Any] = {item.name: None for item in fields(Fitted)}
    return Fitted(**values | {"probe": probe, "embedding": embedding, "unreadable": ()})


def test_a_table_learned_has_a_reference_by_column(table: Path, world: Any) -> None:
    made = train(read_dataset(table).samples, now=world.now, trainer="tabular")
    reference = made.manifest.reference
    assert reference is not None
    columns = len(made.manifest.graphs[0].pre.columns)
    assert (len(reference.input_mean), len(reference.input_std)) == (columns, columns)
    assert reference.embedding_mean == ()
    assert max(abs(value) for value in reference.input_mean) < 1  # prepared inputs are scaled


def test_pictures_have_a_reference_by_channel_and_embeddings_by_dimension() -> None:
    probe = np.random.default_rng(1).normal(2.0, 3.0, (40, 3, 8, 8)).astype(np.float32)
    session = MemoryRuntime().open(b'{"classes": 3, "seed": 1, "embedding": 5}')
    reference = reference_of(fitted(probe, "embedding"), session)
    assert reference is not None
    np.testing.assert_allclose(reference.input_mean, [2.0] * 3, atol=0.2)
    np.testing.assert_allclose(reference.input_std, [3.0] * 3, atol=0.2)
    assert (len(reference.embedding_mean), reference.count) == (5, 40)


def test_a_real_network_gives_the_embeddings_and_no_probe_gives_none() -> None:
    session = OnnxRuntime().open(network("none"))
    probe = np.random.default_rng(1).standard_normal((30, 2)).astype(np.float32)
    reference = reference_of(fitted(probe, "embedding"), session)
    assert reference is not None
    assert len(reference.embedding_std) == 3
    assert reference_of(fitted(probe[:0], "embedding"), session) is None
