"""COCO: filter, stray parts, held things, hard negatives on a small hand-made file; the steps on the real subset."""

import io
import json
import tarfile

import numpy as np
import pytest
from PIL import Image

from bgtrain import coco, shards
from bgtrain.errors import BrokenData, DataError, MissingData

pytestmark = pytest.mark.filterwarnings(
    "ignore:__array__ implementation:DeprecationWarning"
)  # of pycocotools

SIDE = 100
CATEGORIES = [
    {"id": 1, "name": "person", "supercategory": "person"},
    {"id": 18, "name": "dog", "supercategory": "animal"},
    {"id": 43, "name": "tennis racket", "supercategory": "sports"},
    {"id": 67, "name": "dining table", "supercategory": "furniture"},
]
WHOLE = [0, 0, 2] * 17
"""All keypoints seen."""
WRIST = [0, 0, 0] * 9 + [5, 5, 2] + [0, 0, 0] * 7
"""A hand: one wrist, nothing else."""
LEGS = [0, 0, 0] * 11 + [5, 5, 2] * 6
"""Hips, knees and ankles: no head, no torso."""


def box(left, top, right, bottom):
    return [[left, top, right, top, right, bottom, left, bottom]]


class Builder:
    """Writes a COCO folder as published."""

    def __init__(self, root):
        self.root = root
        self.images, self.annotations = [], []
        (root / "train2017").mkdir(parents=True)

    def photo(self, name):
        number = len(self.images) + 1
        Image.new("RGB", (SIDE, SIDE), (120, 130, 140)).save(self.root / "train2017" / f"{name}.jpg")
        self.images.append({"id": number, "file_name": f"{name}.jpg", "height": SIDE, "width": SIDE})
        return number

    def mark(self, image, category, segmentation, **more):
        one = {
            "id": len(self.annotations) + 1,
            "image_id": image,
            "category_id": category,
            "segmentation": segmentation,
            "iscrowd": 0,
            "area": 1,
            "bbox": [0, 0, 1, 1],
            **more,
        }
        self.annotations.append(one)
        return one["id"]

    def save(self):
        folder = self.root / "annotations"
        folder.mkdir(exist_ok=True)
        content = {"images": self.images, "annotations": self.annotations, "categories": CATEGORIES}
        (folder / "instances_train2017.json").write_text(json.dumps(content))
        return self.root


@pytest.fixture
def builder(tmp_path):
    return Builder(tmp_path / "coco")


def load(root):
    folder = root / "annotations"
    return coco.Annotations(folder / "instances_train2017.json", folder / "person_keypoints_train2017.json")


def people_of(root, **settings):
    settings = {"refine": False, **settings}
    return coco.CocoPeople(load(root), coco.PhotoSource(root / "train2017"), coco.Filter(**settings))


def test_the_table_says_what_each_step_leaves_over(builder):
    good = builder.photo("good")
    builder.mark(good, 1, box(20, 20, 80, 80), keypoints=WHOLE)
    nobody = builder.photo("nobody")
    builder.mark(nobody, 67, box(0, 0, 50, 50))
    crowd = builder.photo("crowd")
    builder.mark(crowd, 1, {"size": [SIDE, SIDE], "counts": [0, SIDE * SIDE]}, iscrowd=1)
    hand = builder.photo("hand")
    builder.mark(hand, 1, box(0, 20, 60, 80), keypoints=WRIST)
    many = builder.photo("many")
    for number in range(4):
        builder.mark(many, 1, box(5 + 20 * number, 20, 20 + 20 * number, 80), keypoints=WHOLE)
    tiny = builder.photo("tiny")
    builder.mark(tiny, 1, box(40, 40, 50, 60), keypoints=WHOLE)
    left, steps = coco.filter_photos(load(builder.save()), coco.Filter())
    assert [one.key for one in left] == ["good"]
    assert [(step.name, step.photos, step.people) for step in steps] == [
        ("photos of the set", 6, 8),
        ("with people", 5, 8),
        ("without crowds", 4, 7),
        ("with whole people", 3, 6),
        ("at most 3 people", 2, 2),
        ("people cover 20%-70%", 1, 1),
    ]
    assert "people cover 20%-70%" in coco.step_table(steps)


@pytest.mark.parametrize(("keypoints", "stray"), [(WHOLE, False), (WRIST, True), (LEGS, True)])
def test_keypoints_decide_what_is_a_stray_part(keypoints, stray):
    assert coco.is_stray_part({"keypoints": keypoints}, np.ones((SIDE, SIDE), bool)) is stray


def mask_of(left, top, right, bottom):
    mask = np.zeros((SIDE, SIDE), bool)
    mask[top:bottom, left:right] = True
    return mask


@pytest.mark.parametrize(
    ("shape", "stray"),
    [
        ((0, 40, 50, 60), True),  # an arm from the side
        ((40, 0, 60, 50), True),  # legs from above
        ((30, 30, 70, 100), False),  # half a figure, cut off by the lower border
        ((40, 20, 60, 80), False),  # a figure in the middle
        ((0, 0, 90, 95), False),  # a face that fills the photo
    ],
)
def test_without_keypoints_the_shape_decides(shape, stray):
    assert coco.is_stray_part({}, mask_of(*shape)) is stray
    assert coco.is_stray_part({"keypoints": [0] * 51}, mask_of(*shape)) is stray


def test_keypoints_of_the_second_file_are_joined_by_annotation(builder):
    image = builder.photo("hand")
    builder.mark(image, 1, box(20, 20, 80, 80))
    root = builder.save()
    assert len(people_of(root)) == 1
    points = {"annotations": [{"id": 1, "keypoints": WRIST}]}
    (root / "annotations" / "person_keypoints_train2017.json").write_text(json.dumps(points))
    assert len(people_of(root)) == 0


@pytest.fixture
def player(builder):
    """A person of columns 20-60 with a racket in front of and beside them, and a racket far away."""
    image = builder.photo("player")
    builder.mark(image, 1, box(20, 10, 60, 90), keypoints=WHOLE)
    builder.mark(image, 43, box(50, 40, 70, 60))
    builder.mark(image, 43, box(85, 80, 95, 95))
    builder.mark(image, 67, box(60, 70, 80, 90))  # touches, but nobody holds a table
    return builder.save()


@pytest.mark.parametrize(
    ("policy", "in_hand", "over_person", "ignored"),
    [("keep", 255, 255, False), ("background", 0, 0, False), ("ignore", 0, 255, True)],
)
def test_held_things_follow_the_policy(player, policy, in_hand, over_person, ignored):
    (example,) = people_of(player, held=policy)
    assert example.matte[50, 65] == in_hand
    assert example.matte[50, 55] == over_person
    assert example.ignore[50, 65] == ignored
    assert example.matte[85, 90] == 0  # the racket on the ground is background
    assert not example.ignore[85, 90]
    assert example.matte[80, 70] == 0
    assert not example.ignore[80, 70]


def test_a_thing_larger_than_the_person_is_not_held(builder):
    image = builder.photo("small")
    builder.mark(image, 1, box(10, 10, 60, 60), keypoints=WHOLE)
    builder.mark(image, 43, box(20, 20, 100, 100))
    (example,) = people_of(builder.save(), held="keep")
    assert example.matte[80, 80] == 0


def test_a_stray_part_beside_a_whole_person_is_left_out_of_the_loss(builder):
    image = builder.photo("two")
    builder.mark(image, 1, box(40, 10, 90, 90), keypoints=WHOLE)
    builder.mark(image, 1, box(0, 40, 20, 60), keypoints=WRIST)
    (example,) = people_of(builder.save())
    assert example.persons == 1
    assert example.matte[50, 10] == 0
    assert example.ignore[50, 10]
    assert not example.ignore[50, 50]


def test_animals_without_people_come_along_as_hard_negatives(builder):
    for name, person in (("dog", False), ("man_and_dog", True), ("other_dog", False)):
        image = builder.photo(name)
        builder.mark(image, 18, box(20, 20, 80, 80))
        if person:
            builder.mark(image, 1, box(0, 0, 5, 5), keypoints=WHOLE)
    root = builder.save()
    assert [one.key for one in people_of(root, animals=9)] == ["dog", "other_dog"]
    assert all(one.label == "empty" and not one.matte.any() for one in people_of(root, animals=9))
    assert len(people_of(root, animals=1)) == 1
    assert len(people_of(root)) == 0


def test_run_lengths_and_polygons_give_the_same_mask(builder):
    image = builder.photo("one")
    polygon = builder.mark(image, 1, box(20, 0, 40, SIDE))
    runs = builder.mark(image, 1, {"size": [SIDE, SIDE], "counts": [20 * SIDE, 20 * SIDE, 60 * SIDE]})
    annotations = load(builder.save())
    masks = [annotations.mask(annotations.coco.anns[id]) for id in (polygon, runs)]
    assert (masks[0] != masks[1]).mean() <= 0.01
    assert masks[1].sum() == 20 * SIDE


def test_a_photo_that_cannot_be_decoded_is_skipped_counted_and_listed(builder, capsys):
    for name in ("broken", "fine"):
        builder.mark(builder.photo(name), 1, box(20, 20, 80, 80), keypoints=WHOLE)
    root = builder.save()
    (root / "train2017" / "broken.jpg").write_bytes(b"\xff\xd8\xff cut short")
    assert coco.main([str(root), "--out", str(root / "shards"), "--no-refine"]) == 1
    told = capsys.readouterr()
    assert "decoded and packed" in told.out
    assert told.out.split("decoded and packed")[1].split()[:2] == ["1", "1"]
    assert "skipped broken.jpg: " in told.err


def test_a_photo_of_another_size_than_annotated_is_skipped(builder):
    builder.mark(builder.photo("a"), 1, box(20, 20, 80, 80), keypoints=WHOLE)
    root = builder.save()
    Image.new("RGB", (SIDE, 50)).save(root / "train2017" / "a.jpg")
    source = people_of(root)
    assert list(source) == []
    assert "annotated (100, 100)" in source.skipped[0].why


def test_missing_files_are_named(builder):
    builder.mark(builder.photo("a"), 1, box(20, 20, 80, 80), keypoints=WHOLE)
    root = builder.save()
    (root / "train2017" / "a.jpg").unlink()
    with pytest.raises(MissingData, match=r"a\.jpg"):
        list(people_of(root))
    with pytest.raises(MissingData, match=r"instances_val2017\.json"):
        coco.main([str(root), "--set", "val2017"])


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{", "is not JSON"),
        ("[]", "holds a list"),
        ('{"images": [], "annotations": []}', 'no list "categories"'),
        ('{"images": [], "annotations": [], "categories": []}', 'no category "person"'),
        (
            json.dumps({"images": [], "annotations": [{"id": 7, "image_id": 3}], "categories": CATEGORIES}),
            "annotation 7 is of image 3",
        ),
    ],
)
def test_a_broken_annotation_file_is_named_with_what_is_wrong(tmp_path, content, said):
    path = tmp_path / "instances_train2017.json"
    path.write_text(content)
    with pytest.raises(BrokenData, match=said) as caught:
        coco.Annotations(path)
    assert path.name in str(caught.value)


def test_a_broken_polygon_is_named_by_annotation(builder):
    number = builder.mark(builder.photo("a"), 1, [["x", "y"]], keypoints=WHOLE)
    with pytest.raises(BrokenData, match=f"annotation {number} has a broken segmentation"):
        people_of(builder.save())


@pytest.mark.parametrize("settings", [{"held": "drop"}, {"cover": (0.7, 0.2)}, {"max_people": 0}])
def test_impossible_filters_are_refused(settings):
    with pytest.raises(DataError, match=next(iter(settings))):
        coco.Filter(**settings)


def test_the_shards_hold_what_the_filter_kept(player):
    out = player / "shards"
    assert coco.main([str(player), "--out", str(out), "--no-refine"]) == 0
    with tarfile.open(out / "coco-00000.tar") as tar:
        assert tar.getnames() == ["player.jpg", "player.png", "player.ignore.png"]
        photo = tar.extractfile("player.jpg").read()
    assert photo == (player / "train2017" / "player.jpg").read_bytes()
    (row,) = shards.read_index(out)
    assert (row.pool, row.label, row.persons, row.split) == (
        "coco_person",
        "polygon",
        1,
        shards.split_of("player", shares=coco.SHARES),
    )
    assert Image.open(io.BytesIO(photo)).size == (row.width, row.height)


@pytest.mark.shared
def test_the_steps_on_the_real_subset(shared_data):
    annotations = coco.Annotations(shared_data / "coco_instances_person.json")
    left, steps = coco.filter_photos(annotations, coco.Filter())
    assert [(step.photos, step.people) for step in steps[:3]] == [
        (1084, 2774)
    ] * 3  # people only, crowds taken out
    counts = [step.photos for step in steps]
    assert counts == sorted(counts, reverse=True)
    assert 100 < len(left) < 400
    index = {row.key: row for row in shards.read_index(shared_data)}
    assert all(index[one.key].pool == "coco_person" for one in left)
    for one in left[::40]:
        cover = annotations.union(one.people + one.stray, coco.size_of(one.image)).mean()
        assert (
            abs(cover - index[one.key].person_fraction) < 0.02
        )  # our polygons are those of the packed mattes


@pytest.mark.shared
def test_a_real_photo_comes_through_the_whole_pipeline(shared_data):
    annotations = coco.Annotations(shared_data / "coco_instances_person.json")
    source = coco.CocoPeople(annotations, coco.PhotoSource(shared_data))
    example = next(iter(source))
    assert example.photo.shape[:2] == example.matte.shape == example.ignore.shape
    assert 0.15 < (example.matte > 127).mean() < 0.75
