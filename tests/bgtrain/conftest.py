"""A tiny data set in the shards' format, made of drawn figures."""

import csv
import io
import tarfile

import cv2
import numpy as np
import pytest


def figure(rng, height=96, width=80):
    """A photo of a bright figure on noise, and its matte."""
    matte = np.zeros((height, width), np.uint8)
    centre = (int(rng.integers(25, width - 25)), int(rng.integers(30, height - 30)))
    cv2.ellipse(matte, centre, (16, 26), float(rng.uniform(0, 180)), 0, 360, 255, -1, cv2.LINE_AA)
    photo = rng.integers(0, 110, (height, width, 3), dtype=np.uint8)
    share = matte[..., None] / 255
    return (photo * (1 - share) + np.array([230, 180, 150]) * share).astype(np.uint8), matte


def png(array):
    return cv2.imencode(".png", array)[1].tobytes()


@pytest.fixture(scope="session")
def tiny_data(tmp_path_factory):
    """Folder with index.csv and one shard: 12 people, 4 photos without, 2 backgrounds; split 2:1 train and val."""
    root = tmp_path_factory.mktemp("tiny data")
    rng = np.random.default_rng(7)
    kinds = [("ccp", "pixel")] * 6 + [("coco_person", "polygon")] * 6 + [("neg_coco", "empty")] * 4
    kinds += [("bg_scenes", "none")] * 2
    rows = []
    with tarfile.open(root / "tiny-00.tar", "w") as tar:
        for i, (pool, label) in enumerate(kinds):
            photo, matte = figure(rng)
            files = {"jpg": cv2.imencode(".jpg", photo[..., ::-1])[1].tobytes()}
            if label in ("pixel", "polygon"):
                files["png"] = png(matte)
            else:
                files["jpg"] = cv2.imencode(".jpg", rng.integers(0, 110, photo.shape, dtype=np.uint8))[
                    1
                ].tobytes()
            for ending, data in files.items():
                member = tarfile.TarInfo(f"tiny_{i}.{ending}")
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))
            rows.append(
                {
                    "key": f"tiny_{i}",
                    "shard": "tiny-00.tar",
                    "pool": pool,
                    "split": "val" if i % 3 == 2 else "train",
                    "label": label,
                    "width": 80,
                    "height": 96,
                    "person_fraction": round(float(matte.mean() / 255), 4) if "png" in files else 0,
                    "persons": 1 if "png" in files else "",
                    "source": "drawn",
                    "licence": "CC0",
                    "agreement": "",
                }
            )
    with (root / "index.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    return root


TINY = """
network = "tiramisu"
seed = 3
validate_every = 4
save_every = 2
precision = "fp32"
[contract]
size_hw = [64, 64]
mean = [0.5, 0.5, 0.5]
std = [0.5, 0.5, 0.5]
[data.pools]
ccp = 1.0
coco_person = 1.0
neg_coco = 0.5
[optimizer]
warmup_steps = 2
ema = 0.5
[[phases]]
size = 32
steps = 4
batch = 4
[[phases]]
size = 64
steps = 4
batch = 2
"""


@pytest.fixture
def tiny_recipe(tmp_path):
    """Path of a recipe of eight steps."""
    path = tmp_path / "tiny.toml"
    path.write_text(TINY)
    return path
