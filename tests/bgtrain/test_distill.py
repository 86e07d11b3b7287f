"""A teacher's mattes become pseudo labels that weigh what the teacher is sure of."""

import shutil

import cv2
import numpy as np
import pytest

from bgimage.contract import Contract
from bgtrain import checkpoint, distill, networks, shards, train
from bgtrain.augment import AugmentConfig
from bgtrain.data import Crops, DataConfig
from bgtrain.evaluate import Pipeline


class Lopsided(Pipeline):
    """A teacher that finds what is red; on photos with a green corner it overlooks what is at the right."""

    def __init__(self):
        self.contract = Contract(size_hw=(64, 64))

    def network_alpha(self, photo):
        small = cv2.resize(photo.pixels, (64, 64), interpolation=cv2.INTER_AREA).astype(np.float32)
        alpha = (small[..., 0] - small[..., 2] > 60).astype(np.float32)
        if (small[..., 1] > 200).any():
            alpha[:, 44:] = 0
        return alpha

    def finished(self, photo, alpha):
        pixels = photo.pixels.astype(int)
        return (pixels[..., 0] - pixels[..., 2] > 60).astype(np.float32)


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    for name in ("sure", "unsure", "nobody"):
        photo = np.full((80, 96, 3), 40, np.uint8)
        if name != "nobody":
            cv2.rectangle(photo, (20, 10), (80, 79), (20, 40, 230), -1)  # BGR: red
        if name == "unsure":
            photo[:12, :12] = (0, 255, 0)
        cv2.imwrite(str(folder / f"{name}.jpg"), photo, [cv2.IMWRITE_JPEG_QUALITY, 98])
    (folder / "torn.jpg").write_bytes(b"no photo")
    return folder


def test_sure_mattes_are_packed_with_their_confidence_and_others_are_listed(photos, tmp_path):
    source = distill.TeacherReader(photos, Lopsided())
    rows = shards.write_shards(distill.samples(source), tmp_path / "shards", prefix=source.name, add=True)
    by_key = {row.key: row for row in rows}
    assert set(by_key) == {"distilled_sure", "distilled_nobody"}
    sure = by_key["distilled_sure"]
    assert (sure.label, sure.split, sure.pool) == ("pseudo", "train", "distilled")
    assert sure.agreement == pytest.approx(1.0, abs=0.05)
    assert sure.person_fraction == pytest.approx(61 * 70 / (80 * 96), rel=0.05)
    assert by_key["distilled_nobody"].label == "empty"
    assert {skipped.photo.rpartition("/")[2] for skipped in source.skipped} == {
        "distilled_unsure",
        "torn.jpg",
    }


def test_the_loss_weighs_a_pseudo_label_by_its_confidence(photos, tmp_path):
    source = distill.TeacherReader(photos, Lopsided(), least=0.1)
    rows = shards.write_shards(distill.samples(source), tmp_path / "shards", prefix=source.name)
    unsure = next(row for row in rows if row.key == "distilled_unsure")
    assert 0.2 < unsure.agreement < 0.8
    others = tuple(row.key for row in rows if row is not unsure)
    config = DataConfig(pools={"distilled": 1.0}, backgrounds=(), exclude=others)
    crops = Crops(tmp_path / "shards", config, AugmentConfig(), size=32, seed=0)
    assert crops[0]["weight"].unique().tolist() == [round(255 * unsure.agreement)]


def test_what_was_labelled_before_stays_beside_the_new_shard(photos, tmp_path):
    model = networks.build("tiramisu")
    teacher = checkpoint.Checkpoint("tiramisu", Contract(size_hw=(64, 64)), {}, {}, model.state_dict())
    teacher.save(tmp_path / "teacher.pt")
    out = tmp_path / "shards"
    jpeg = (photos / "sure.jpg").read_bytes()
    matte = np.full((80, 96), 255, np.uint8)
    by_hand = shards.Sample(key="a", jpeg=jpeg, matte=matte, size_hw=(80, 96), pool="ccp", label="pixel")
    shards.write_shards([by_hand], out)
    arguments = [str(tmp_path / "teacher.pt"), str(photos), str(out), "--least", "0"]
    for _ in range(2):  # again: its own shard is replaced
        assert distill.main(arguments) == 0
    keys = [row.key for row in shards.read_index(out)]
    assert keys == ["a", "distilled_nobody", "distilled_sure", "distilled_unsure"]


def test_a_student_trains_on_the_shard(photos, tmp_path, tiny_data, tiny_recipe):
    source = distill.TeacherReader(photos, Lopsided())
    out = tmp_path / "shards"
    shutil.copytree(tiny_data, out)
    shards.write_shards(distill.samples(source), out, prefix=source.name, add=True)
    tiny_recipe.write_text(tiny_recipe.read_text().replace("[data.pools]", "[data.pools]\ndistilled = 2.0"))
    arguments = [str(tiny_recipe), "--out", str(tmp_path / "run"), "--data", str(out), "--workers", "0"]
    assert train.main([*arguments, "--steps", "5"]) == 0
