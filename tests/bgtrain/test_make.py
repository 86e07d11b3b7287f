"""One command from the data to published weights."""

import json

import pytest

from bgtrain import checkpoint, make
from bgtrain.recipe import RecipeError

CHAIN = """
settling_crops = 8
[recipe]
network = "tiramisu"
validate_every = 2
precision = "fp32"
[recipe.contract]
size_hw = [64, 64]
[recipe.data.pools]
ccp = 1.0
coco_person = 1.0
neg_coco = 0.5
[recipe.optimizer]
warmup_steps = 1
ema = 0.5
[[stages]]
name = "frozen"
seed = 1
optimizer.encoder_lr = 0.0
phases = [{size = 32, steps = 2, batch = 2}]
[[stages]]
name = "whole"
seed = 2
phases = [{size = 64, steps = 2, batch = 2}]
[[stages]]
name = "mean"
average = ["frozen", "whole"]
"""


@pytest.fixture
def chain(tmp_path):
    path = tmp_path / "tiny.toml"
    path.write_text(CHAIN)
    return path


def test_a_stage_adds_to_what_is_said_for_all(chain):
    frozen, whole, mean = make.load(chain).stages
    assert frozen.recipe.optimizer.encoder_lr == 0
    assert whole.recipe.optimizer.encoder_lr == 1
    assert frozen.recipe.optimizer.ema == whole.recipe.optimizer.ema == 0.5
    assert mean.average == ("frozen", "whole")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "begins with a"),
        ('[[stages]]\naverage = ["a", "b"]', "two earlier stages"),
        (CHAIN + "[more]", "unknown"),
        (CHAIN.replace("steps = 2", "stops = 2"), "stage 'frozen'"),
    ],
)
def test_a_chain_that_cannot_be_followed_is_said_so(tmp_path, text, said):
    path = tmp_path / "bad.toml"
    path.write_text(text)
    with pytest.raises(RecipeError, match=said):
        make.load(path)


def test_a_chain_trains_averages_settles_scores_and_publishes_and_goes_on(chain, tiny_data, tmp_path, capsys):
    out = tmp_path / "run"
    command = [str(chain), "--out", str(out), "--data", str(tiny_data), "--workers", "0"]
    with pytest.raises(Exception, match="split 'test'"):  # the tiny data has no test photos
        make.main(command)
    weights = checkpoint.load(out / "tiny.pt")
    assert weights.resume is None
    assert weights.network == "tiramisu"
    assert json.loads((out / "tiny-val.json").read_text())["split"] == "val"
    before = (out / "whole" / "log.jsonl").read_text()
    with pytest.raises(Exception, match="split 'test'"):
        make.main(command)
    assert (out / "whole" / "log.jsonl").read_text() == before, "a finished stage is not trained again"
    recorded = make.record(make.load(chain).stages[1], out / "whole")
    assert (recorded["steps"], recorded["crops"]) == (2, 4)
    assert recorded["val"]["score"] <= 1


def test_the_teacher_looks_at_the_training_photos_of_its_pool(tiny_data, tmp_path):
    program = tmp_path / "teacher.py"
    program.write_text(
        "import pathlib, sys, cv2\n"
        "photos, out = map(pathlib.Path, sys.argv[1:])\n"
        "for path in photos.glob('*.jpg'):\n"
        "    cv2.imwrite(str(out / f'{path.stem}.png'), cv2.imread(str(path))[..., 1])\n"
    )
    teacher = make.Teacher("coco_person", ("python", str(program)))
    data = make.with_teacher_labels(teacher, tiny_data, tmp_path / "run")
    index = (data / "index.csv").read_text()
    assert ",pseudo," in index
    assert len(list((tmp_path / "run" / "teacher" / "photos").iterdir())) == 4
    assert (
        make.with_teacher_labels(make.Teacher("coco_person", ("false",)), tiny_data, tmp_path / "run") == data
    )
