import json
import shutil

import pytest

from bgtrain import publish
from bgtrain.errors import DataError
from bgtrain.metrics import MEASURES

PEOPLE = ("ccp", "vikram_humanseg", "people_pseudo", "people_cutout", "pennfudan", "coco_person")


def summary(iou, photos):
    value = {"mean": iou, "se": 0.01}
    names = ("iou", "boundary_iou", "iou_worst_tenth", "ghost", "mae", "marked")
    return {"photos": photos, **dict.fromkeys(names, value)}


def evaluation(iou, marked=0.004):
    raw = [
        [f"{pool}_{number}", *(iou if name.endswith("iou") else 0.02 for name in MEASURES)]
        for pool in PEOPLE
        for number in range(4)
    ]
    raw += [[f"neg_coco_{number}", *(marked for _ in MEASURES)] for number in range(4)]
    nobody = {
        "photos": 4,
        **{key: {"mean": marked, "se": 0.001} for key in ("marked", "marked_over_1_percent")},
    }
    covered = [f"coco_person_{number}" for number in range(4)]
    return {
        "split": "test",
        "pools": {**{pool: summary(iou, 4) for pool in PEOPLE}, "neg_coco": nobody},
        "slices": {
            "20-70 % people": summary(iou, 4),
            "<= 3 people, 20-70 %": summary(iou, 2),
            "no people": nobody,
        },
        "members": {
            "20-70 % people": covered,
            "<= 3 people, 20-70 %": covered[:2],
            "no people": [f"neg_coco_{number}" for number in range(4)],
        },
        "targets": [
            {"name": "ccp", "measure": "iou", "limit": 0.96, "mean": iou, "se": 0.01, "met": iou >= 0.96}
        ],
        "held": {"photos": 3, "mean": 0.7, "se": 0.05, "shares": {}},
        "raw": raw,
    }


@pytest.fixture
def pages(tmp_path):
    (tmp_path / "docs").mkdir()
    shutil.copytree(publish.ROOT / "training/results", tmp_path / "training/results")
    for page in ("README.md", "docs/model-card.md"):
        (tmp_path / page).write_text(f"# Title\n\n{publish.BEGIN}\n{publish.END}\n\nprose\n")
    for name, (page, *_) in publish.MEASURED.items():
        with (tmp_path / page).open("a") as text:
            text.write(f"<!-- {name} -->\nold\n<!-- /{name} -->\n")
    return tmp_path


def published(pages, iou, before=None):
    (pages / "new.json").write_text(json.dumps(evaluation(iou)))
    argv = [str(pages / "new.json"), "--root", str(pages)]
    if before is not None:
        (pages / "old.json").write_text(json.dumps(before))
        argv += ["--before", str(pages / "old.json")]
    publish.main(argv)
    return [(pages / page).read_text() for page in ("README.md", "docs/model-card.md")]


def test_both_pages_get_the_scores_between_their_marks(pages):
    readme, card = published(pages, 0.9)
    assert "| street fashion, full body (ccp, 4) | 0.900 | 0.900 |" in readme
    assert "On 4 photos without people, it marks 0.4% of the area on average." in readme
    assert "| ccp | 4 | 0.900 ± 0.010 |" in card
    assert "| ccp | >= 0.96 | 0.900 | no |" in card
    assert "Held things: 0.700 ± 0.050 of the points marked on them are kept, mean over 3 photos." in card
    assert readme.startswith("# Title")
    assert readme.endswith("prose\n")


def test_what_else_was_measured_goes_to_its_page(pages):
    _, card = published(pages, 0.9)
    text = (pages / "docs/pixels.md").read_text()
    assert "old" not in text + card
    assert "| worst tenth of | photos |" in text
    assert "| stage | pixels | crops | hours |" in card


def test_publishing_again_replaces_the_scores(pages):
    published(pages, 0.9)
    readme, card = published(pages, 0.97)
    assert "0.900" not in readme + card
    assert "| ccp | >= 0.96 | 0.970 | yes |" in card


def test_the_card_says_what_changed_since_the_network_before_and_how_surely(pages):
    _, card = published(pages, 0.9, before=evaluation(0.8))
    # every photo gained the same, so the interval has no width
    assert "| ccp | 4 | 0.800 → 0.900 (+0.100 to +0.100) |" in card
    assert "| the same, at most 3 people | 2 |" in card
    assert "| photos without people: area marked | 4 |" in card


def test_evaluations_of_different_photos_are_not_compared(pages):
    other = evaluation(0.8)
    other["raw"].pop()
    with pytest.raises(DataError, match="different photos"):
        published(pages, 0.9, before=other)


def test_a_page_without_the_marks_is_named(pages):
    (pages / "README.md").write_text("nothing to replace")
    with pytest.raises(ValueError, match=r"README\.md lacks the marks"):
        published(pages, 0.9)
