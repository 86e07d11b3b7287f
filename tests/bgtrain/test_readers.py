"""Readers on tiny copies of each published layout, and on real files where the training photos are at hand."""

import csv
import io
import tarfile

import numpy as np
import pytest
from PIL import Image

from bgtrain import convert, readers, shards
from bgtrain.errors import BrokenData, MissingData

SIZE = (24, 16)  # width, height


def photo(path, size=SIZE, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (90, 140, 60)).save(path, **options)


def label(path, classes, mode="P"):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(np.asarray(classes, np.uint8)).convert("L")
    if mode == "P":
        image = Image.frombytes("P", image.size, image.tobytes())
        image.putpalette(list(range(256)) * 3)
    image.save(path)


def classes(**boxes):
    """A label of zeros with boxes of classes: ``c15=(0, 8)`` puts class 15 into columns 0..8."""
    array = np.zeros((SIZE[1], SIZE[0]), np.uint8)
    for name, (left, right) in boxes.items():
        array[:, left:right] = int(name[1:])
    return array


@pytest.fixture
def voc(tmp_path):
    root = tmp_path / "VOC2012"
    for stem in ("2007_000001", "2007_000002"):
        photo(root / "JPEGImages" / f"{stem}.jpg")
        label(root / "SegmentationClass" / f"{stem}.png", classes(c15=(0, 12), c255=(12, 13), c7=(13, 20)))
        label(
            root / "SegmentationObject" / f"{stem}.png",
            classes(c1=(0, 6), c2=(6, 12), c255=(12, 13), c3=(13, 20)),
        )
    lists = root / "ImageSets" / "Segmentation"
    lists.mkdir(parents=True)
    (lists / "train.txt").write_text("2007_000001\n")
    (lists / "val.txt").write_text("2007_000002\n")
    return root


def test_voc_takes_class_15_ignores_void_and_counts_objects(voc):
    first, second = readers.Voc(voc)
    assert first.key == "voc_2007_000001"
    assert (first.split, second.split) == ("train", "val")
    assert first.persons == 2
    assert (first.matte == np.where(classes(c15=(0, 12)) == 15, 255, 0)).all()
    assert first.ignore[:, 12].all()
    assert first.ignore.sum() == SIZE[1]


def test_voc_without_lists_and_objects_still_reads(voc):
    for folder in ("ImageSets/Segmentation/train.txt", "ImageSets/Segmentation/val.txt"):
        (voc / folder).unlink()
    (voc / "SegmentationObject" / "2007_000001.png").unlink()
    first, second = readers.Voc(voc)
    assert first.persons is None
    assert second.persons == 2
    assert first.split is None


def test_person_part_takes_every_part_in_both_layouts(tmp_path):
    photo(tmp_path / "flat" / "a.jpg")
    label(tmp_path / "flat" / "a.png", classes(c1=(0, 4), c6=(4, 10), c255=(10, 11)))
    photo(tmp_path / "deeplab" / "JPEGImages" / "a.jpg")
    label(tmp_path / "deeplab" / "pascal_person_part_gt" / "a.png", classes(c2=(0, 10), c255=(10, 11)))
    for layout in ("flat", "deeplab"):
        (example,) = readers.PersonPart(tmp_path / layout)
        assert (example.matte > 0).sum() == 10 * SIZE[1]
        assert example.ignore.sum() == SIZE[1]


def test_a_part_that_person_part_does_not_know_is_named(tmp_path):
    photo(tmp_path / "a.jpg")
    label(tmp_path / "a.png", classes(c9=(0, 4)))
    with pytest.raises(BrokenData, match=r"a\.png has part 9"):
        list(readers.PersonPart(tmp_path))


def test_ade20k_takes_class_13_and_its_own_splits(tmp_path):
    for split, stem in (("training", "ADE_train_00000001"), ("validation", "ADE_val_00000001")):
        photo(tmp_path / "images" / split / f"{stem}.jpg")
        label(tmp_path / "annotations" / split / f"{stem}.png", classes(c13=(0, 5), c14=(5, 9)), mode="L")
    first, second = readers.Ade20k(tmp_path)
    assert (first.split, second.split) == ("train", "val")
    assert (first.matte > 0).sum() == 5 * SIZE[1]


def test_camvid_takes_pedestrians_and_ignores_cyclists_and_void(tmp_path):
    for split in ("train", "val", "test"):
        photo(tmp_path / split / f"{split}_frame.png")
        label(
            tmp_path / f"{split}annot" / f"{split}_frame.png",
            classes(c9=(0, 3), c10=(3, 5), c11=(5, 6)),
            mode="L",
        )
    examples = list(readers.CamVid(tmp_path))
    assert [one.split for one in examples] == ["train", "val", "test"]
    assert (examples[0].matte > 0).sum() == 3 * SIZE[1]
    assert examples[0].ignore.sum() == 3 * SIZE[1]


def test_a_folder_of_mattes_keeps_soft_alpha(tmp_path):
    photo(tmp_path / "photos" / "me.jpg")
    label(tmp_path / "mattes" / "me.png", classes(c128=(0, 10), c255=(10, 20)), mode="L")
    (example,) = readers.Folder(tmp_path)
    assert set(np.unique(example.matte)) == {0, 128, 255}


@pytest.mark.parametrize(
    ("missing", "named"),
    [
        ("SegmentationClass", "VOC labels"),
        ("JPEGImages", "VOC photos"),
        ("JPEGImages/2007_000001.jpg", "2007_000001.jpg"),
    ],
)
def test_what_is_missing_is_named(voc, missing, named):
    (voc / missing).rename(voc / "elsewhere")
    with pytest.raises(MissingData, match=named):
        list(readers.Voc(voc))


def test_a_broken_label_is_named(voc):
    (voc / "SegmentationClass" / "2007_000002.png").write_bytes(b"no png")
    with pytest.raises(BrokenData, match=r"2007_000002\.png cannot be decoded"):
        list(readers.Voc(voc))


def test_a_colour_picture_is_no_label(voc):
    Image.new("RGB", SIZE).save(voc / "SegmentationClass" / "2007_000001.png")
    with pytest.raises(BrokenData, match="colour picture"):
        list(readers.Voc(voc))


def test_a_label_of_another_size_is_named_with_both_sizes(voc):
    photo(voc / "JPEGImages" / "2007_000001.jpg", (30, 16))
    with pytest.raises(BrokenData, match=r"is 24x16, its photo 2007_000001\.jpg 30x16"):
        list(readers.Voc(voc))


def test_a_photo_that_cannot_be_decoded_is_skipped_and_listed(voc):
    (voc / "JPEGImages" / "2007_000001.jpg").write_bytes(b"\xff\xd8\xff\xe0 cut short")
    reader = readers.Voc(voc)
    assert [one.key for one in reader] == ["voc_2007_000002"]
    (skipped,) = reader.skipped
    assert skipped.photo.endswith("2007_000001.jpg")
    assert skipped.why


def test_shards_give_back_what_the_reader_gave(voc, tmp_path):
    assert convert.main(["voc", str(voc), str(tmp_path / "shards")]) == 0
    with shards.Shards(tmp_path / "shards") as packed:
        assert [row.key for row in packed.rows] == ["voc_2007_000001", "voc_2007_000002"]
        for example, row in zip(readers.Voc(voc), packed.rows, strict=True):
            assert (row.pool, row.label, row.split, row.persons) == ("voc", "pixel", example.split, 2)
            assert (packed.matte(row.key) == example.matte).all()
            assert (packed.ignore(row.key) == example.ignore).all()
            assert packed.photo(row.key) == example.jpeg  # not encoded a second time
            assert row.person_fraction == 0.5


def test_converting_twice_gives_the_same_bytes(voc, tmp_path):
    for name in ("one", "two"):
        convert.main(["voc", str(voc), str(tmp_path / name), "--photos-per-shard", "1"])
    names = sorted(path.name for path in (tmp_path / "one").iterdir())
    assert names == ["index.csv", "voc-00000.tar", "voc-00001.tar"]
    for name in names:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_shards_have_webdataset_names(voc, tmp_path):
    convert.main(["voc", str(voc), str(tmp_path / "shards")])
    with tarfile.open(tmp_path / "shards" / "voc-00000.tar") as tar:
        names = tar.getnames()
    assert names[:3] == ["voc_2007_000001.jpg", "voc_2007_000001.png", "voc_2007_000001.ignore.png"]


def test_long_photos_are_shrunk_with_their_labels(voc, tmp_path):
    convert.main(["voc", str(voc), str(tmp_path / "shards"), "--max-side", "12"])
    with shards.Shards(tmp_path / "shards") as packed:
        row = packed.rows[0]
        assert (row.width, row.height) == (12, 8)
        assert packed.matte(row.key).shape == (8, 12)
        assert Image.open(io.BytesIO(packed.photo(row.key))).size == (12, 8)


def test_the_converter_lists_what_it_skipped_and_says_so_in_its_status(voc, tmp_path, capsys):
    (voc / "JPEGImages" / "2007_000002.jpg").write_bytes(b"")
    assert convert.main(["voc", str(voc), str(tmp_path / "shards")]) == 1
    talk = capsys.readouterr().err
    assert "1 photos packed" in talk
    assert "1 skipped" in talk
    assert "2007_000002.jpg" in talk


def test_a_key_seen_twice_is_refused(tmp_path):
    one = shards.Sample(key="a", jpeg=b"", matte=None, size_hw=(1, 1), pool="p", label="empty")
    with pytest.raises(BrokenData, match="two photos have the key 'a'"):
        shards.write_shards([one, one], tmp_path)


def test_the_split_depends_on_the_key_alone_and_keeps_its_shares():
    splits = [shards.split_of(f"photo-{number}", seed=3, shares=(0.7, 0.2, 0.1)) for number in range(4000)]
    assert splits == [
        shards.split_of(f"photo-{number}", seed=3, shares=(0.7, 0.2, 0.1)) for number in range(4000)
    ]
    for split, share in (("train", 0.7), ("val", 0.2), ("test", 0.1)):
        assert abs(splits.count(split) / 4000 - share) < 0.03


def test_an_index_with_an_unknown_label_is_refused_by_photo_and_field(tmp_path):
    with (tmp_path / "index.csv").open("w", newline="") as lines:
        writer = csv.writer(lines)
        writer.writerow(["key", "shard", "pool", "split", "label", "width", "height", "person_fraction"])
        writer.writerow(["k1", "a.tar", "p", "train", "guessed", 1, 1, 0])
    with pytest.raises(BrokenData, match=r"'k1': Row\.label='guessed'"):
        shards.read_index(tmp_path)


def test_a_shard_that_the_index_names_and_nobody_has_is_named(voc, tmp_path):
    convert.main(["voc", str(voc), str(tmp_path / "shards")])
    (tmp_path / "shards" / "voc-00000.tar").unlink()
    with pytest.raises(MissingData, match=r"voc-00000\.tar"):
        shards.Shards(tmp_path / "shards")


@pytest.mark.shared
def test_real_voc_files_read(shared_data):
    examples = list(readers.Voc(shared_data / "formats" / "voc_labelme" / "data_dataset_voc"))
    assert {one.key: one.persons for one in examples} == {
        "voc_2011_000003": 2,
        "voc_2011_000006": 4,
        "voc_2011_000025": 0,
    }
    assert all(one.ignore.any() for one in examples[:2])


@pytest.mark.shared
def test_real_person_part_files_read(shared_data):
    examples = list(
        readers.PersonPart(shared_data / "formats" / "pascal_person_part_and_voc_examples" / "Person")
    )
    assert len(examples) == 4
    assert all(0.01 < (one.matte > 0).mean() < 0.9 for one in examples)


@pytest.mark.shared
def test_real_camvid_files_read(shared_data):
    examples = list(readers.CamVid(shared_data / "formats" / "camvid"))
    assert len(examples) == 24
    assert 0 < np.mean([(one.matte > 0).mean() for one in examples]) < 0.05  # pedestrians are small there


@pytest.mark.shared
def test_real_ade20k_files_read_and_the_colour_one_among_them_is_named(shared_data):
    reader = readers.Ade20k(shared_data / "formats" / "ade20k")
    with pytest.raises(BrokenData, match=r"ADE_train_00009317\.png is a colour picture"):
        list(reader)
    assert next(iter(reader)).key == "ade20k_ADE_train_00000001"
