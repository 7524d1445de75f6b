"""What we write is read by the libraries that others read it with, and what they write by us."""

from __future__ import annotations

import contextlib
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from edgewise.frames import decode_image
from edgewise.learn import TrainingSample, read_dataset, write_dataset
from edgewise.wire import Annotation, Box, canonical, digest

# The COCO tools are from before numpy 2.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
HEIGHT, WIDTH = 20, 30


def png(values: Any) -> bytes:
    file = io.BytesIO()
    Image.fromarray(values, "L").save(file, "PNG")
    return file.getvalue()


def blot() -> Any:
    """A mask with an edge on every side and a hole, bool (20, 30)."""
    mask = np.zeros((HEIGHT, WIDTH), dtype=bool)
    mask[0:9, 0:11] = True
    mask[15:, 20:] = True
    mask[3:5, 3:6] = False
    return mask


def made(name: str, label: str, **changes: Any) -> TrainingSample:
    content = png(np.full((HEIGHT, WIDTH), len(name), np.uint8))
    return TrainingSample(name=name, label=label, group=name, read=lambda: content, media_type="image/png", **changes)


def masked(name: str) -> TrainingSample:
    mask = png(blot().astype(np.uint8) * 255)
    box = Box(label="pore", x1=0.1, y1=0.2, x2=0.5, y2=0.4)
    return made(name, "pit", annotation=Annotation(boxes=(box,), mask=digest(mask)), mask=lambda: mask)


def opened(path: Path) -> Any:
    coco = pytest.importorskip("pycocotools.coco")
    with contextlib.redirect_stdout(io.StringIO()):
        return coco.COCO(str(path))


def test_the_coco_tools_read_our_boxes_and_masks(tmp_path: Path) -> None:
    write_dataset([masked("a"), made("bb", "ok", annotation=Annotation(boxes=()))], tmp_path / "out", "coco")
    coco = opened(tmp_path / "out" / "annotations.json")
    names = {one["id"]: one["name"] for one in coco.loadCats(coco.getCatIds())}
    found = {
        names[one["category_id"]]: one
        for one in coco.loadAnns(coco.getAnnIds())
        if coco.loadImgs(one["image_id"])[0]["file_name"] == "a.png"
    }
    assert found["pore"]["bbox"] == pytest.approx([3, 4, 12, 4])
    assert np.array_equal(coco.annToMask(found["pit"]).astype(bool), blot())
    assert found["pit"]["area"] == blot().sum()
    assert len(coco.getImgIds()) == 2
    assert len(coco.getAnnIds()) == 2


def test_we_read_the_masks_that_the_coco_tools_write(tmp_path: Path) -> None:
    tools = pytest.importorskip("pycocotools.mask")
    runs = tools.encode(np.asfortranarray(blot().astype(np.uint8)))
    about = {"id": 1, "image_id": 1, "category_id": 1, "iscrowd": 0, "bbox": tools.toBbox(runs).tolist()}
    body = {
        "images": [{"id": 1, "file_name": "a.png", "width": WIDTH, "height": HEIGHT}],
        "categories": [{"id": 1, "name": "pit"}],
        "annotations": [about | {"segmentation": {"size": runs["size"], "counts": runs["counts"].decode()}}],
    }
    (tmp_path / "annotations.json").write_text(json.dumps(body))
    (tmp_path / "a.png").write_bytes(png(np.zeros((HEIGHT, WIDTH), np.uint8)))
    (one,) = read_dataset(tmp_path).samples
    assert one.mask is not None
    assert np.array_equal(decode_image(one.mask(), channels=1)[:, :, 0] > 0, blot())


def test_arrow_reads_our_parquet_with_its_kinds(tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    rows = [
        TrainingSample(
            name=f"r{n}",
            label="ok" if n % 2 else "pit",
            group=f"r{n}",
            read=lambda n=n: canonical({"force": n / 2}),
            media_type="application/json",
            columns={"lot": "007"},
        )
        for n in range(6)
    ]
    write_dataset(rows, tmp_path / "out", "parquet")
    table = parquet.read_table(tmp_path / "out" / "labels.parquet")
    kinds = {field.name: str(field.type) for field in table.schema}
    assert kinds == {"label": "string", "id": "string", "force": "double", "lot": "string"}
    assert table.column("force").to_pylist() == [n / 2 for n in range(6)]
    assert set(table.column("lot").to_pylist()) == {"007"}
