"""All networks, one budget: the clock decides, and what was seen is recorded."""

import json
import re

import pytest
import torch

from bgtrain import compare, equal, recipe, train
from bgtrain.errors import DataError

BUDGET = equal.Budget(minutes=1 / 60, size=32, batch=2)


class Clock:
    """A second passes whenever somebody looks."""

    def __init__(self):
        self.now = -1.0

    def __call__(self):
        self.now += 1.0
        return self.now


def test_the_learning_rate_follows_the_clock(tiny_recipe, tiny_data, tmp_path):
    base = equal.recipe_for("tiramisu-large", recipe.load(tiny_recipe), BUDGET)
    trainer = equal.TimedTrainer(base, tmp_path, tiny_data, train.Process(torch.device("cpu")), 0, None)
    rates = []
    learn = trainer.learn

    def learn_and_note(*given):
        loss = learn(*given)
        rates.append(trainer.optimizer.param_groups[0]["lr"] / base.optimizer.lr)
        return loss

    trainer.learn = learn_and_note
    done = trainer.train_for(20, Clock())
    assert (done["steps"], done["crops"]) == (19, 38)
    assert rates[0] == pytest.approx(1.0)  # 1 s of 20: warm
    assert rates[-1] == pytest.approx(1 / 20 / base.optimizer.decay_fraction)
    assert rates == sorted(rates, reverse=True)


@pytest.fixture
def command(tiny_recipe, tiny_data, tmp_path):
    """Of a short comparison that writes ``equal.json``; networks follow."""
    for name in ("index.csv", "tiny-00.tar"):  # with a test split instead of the validation split
        (tmp_path / name).write_bytes((tiny_data / name).read_bytes().replace(b",val,", b",test,"))
    files = ["--train", str(tiny_recipe), "--data", str(tmp_path), "--out", str(tmp_path / "equal.json")]
    return [*files, "--minutes", "0.03", "--size", "32", "--batch", "2", "--workers", "0", "--networks"]


def test_all_networks_are_trained_scored_and_put_in_one_table(command, tmp_path, capsys):
    out = tmp_path / "equal.json"
    assert compare.main([*command, "tiramisu-large", "fcn32s"]) == 0
    result = json.loads(out.read_text())
    assert (result["minutes"], result["size"], result["split"]) == (0.03, 32, "test")
    assert {"cpu", "gpu", "threads", "torch"} == set(result["machine"])
    for entry in result["networks"].values():
        assert entry["crops"] == 2 * entry["steps"] > 0
        assert entry["pools"]["ccp"]["photos"] == 2
        assert 0 <= entry["score"] + entry["pools"]["empty"]["mean"] <= 1
    table = out.with_suffix(".md").read_text()
    assert table == equal.markdown(result)
    assert table in capsys.readouterr().out
    assert {"| tiramisu-large", "| fcn32s"} <= {line.rpartition(" | fresh")[0] for line in table.splitlines()}
    # the same command again keeps what is done and adds what is not
    assert compare.main([*command, "fcn32s", "unet-32"]) == 0
    again = json.loads(out.read_text())
    assert set(again["networks"]) == {"tiramisu-large", "fcn32s", "unet-32"}
    assert again["networks"]["fcn32s"] == result["networks"]["fcn32s"]


def test_two_calls_that_write_the_same_file_keep_each_other_s_networks(command, tmp_path, monkeypatch):
    train_for = equal.TimedTrainer.train_for

    def interrupted(trainer, seconds, clock):
        if trainer.recipe.network == "fcn32s":  # while it is trained, the other call ends
            assert compare.main([*command, "unet-32"]) == 0
        return train_for(trainer, seconds, clock)

    monkeypatch.setattr(equal.TimedTrainer, "train_for", interrupted)
    assert compare.main([*command, "fcn32s"]) == 0
    assert set(json.loads((tmp_path / "equal.json").read_text())["networks"]) == {"unet-32", "fcn32s"}


def test_a_network_with_published_weights_begins_with_them(tiny_recipe):
    served = equal.recipe_for("tiramisu", recipe.load(tiny_recipe), BUDGET)
    assert served.modnet
    assert served.optimizer.encoder_lr == equal.ENCODER_LR
    assert not equal.recipe_for("fcn8s", recipe.load(tiny_recipe), BUDGET).modnet


def test_nothing_to_compare_is_said(capsys):
    with pytest.raises(SystemExit):
        compare.main([])
    assert "name evaluations to compare" in capsys.readouterr().err


LEVERS = """
[recipe]
network = "tiramisu-large"
[recipe.data.pools]
ccp = 1.0
neg_coco = 1.0
[[levers]]
name = "the recipe"
[[levers]]
name = "no photos without people"
data = { pools = { neg_coco = 0.0 } }
"""


def test_each_lever_is_compared_with_the_recipe_photo_by_photo(tiny_data, tmp_path, capsys):
    file, out = tmp_path / "levers.toml", tmp_path / "levers.json"
    file.write_text(LEVERS)
    command = ["--levers", str(file), "--data", str(tiny_data), "--out", str(out), "--minutes", "0.03"]
    command += ["--size", "32", "--batch", "2", "--workers", "0"]
    assert compare.main([*command, "--only", "no photos without people"]) == 0
    result = json.loads(out.read_text())
    assert list(result["networks"]) == ["the recipe", "no photos without people"]
    base, lever = (one["pools"]["ccp"] for one in result["networks"].values())
    assert len(base["values"]) == base["photos"] == 2
    change = sum(lever["values"]) / 2 - sum(base["values"]) / 2
    table = equal.levers_markdown(result)
    assert table == out.with_suffix(".md").read_text()
    assert table in capsys.readouterr().out
    assert compare.main(command) == 0  # keeps what is done
    assert json.loads(out.read_text()) == result
    assert f"| {change:+.3f} ± " in table.splitlines()[-1]


def test_an_unknown_lever_names_those_there_are(tiny_data, tmp_path):
    file = tmp_path / "levers.toml"
    file.write_text(LEVERS)
    with pytest.raises(
        DataError, match=r"no \['more'\]; it has \['no photos without people', 'the recipe'\]"
    ):
        compare.main(["--levers", str(file), "--data", str(tiny_data), "--only", "more"])


def test_a_file_without_levers_is_refused(tiny_data, tmp_path):
    file = tmp_path / "levers.toml"
    file.write_text(LEVERS.partition("[[levers]]")[0])
    with pytest.raises(recipe.RecipeError, match="add at least one"):
        compare.main(["--levers", str(file), "--data", str(tiny_data)])


@pytest.mark.parametrize(("name", "table"), [("equal", equal.markdown), ("levers", equal.levers_markdown)])
def test_the_readme_has_the_table_of_the_committed_values(root, name, table):
    result = json.loads((root / "training" / "results" / f"{name}.json").read_text())
    assert table(result) in (root / "training" / "README.md").read_text()


@pytest.mark.parametrize(
    ("first", "names"),
    [
        ("`tiramisu`, served", ["tiramisu"]),
        ("`tiramisu-large`", ["tiramisu-large"]),
        ("`fc-densenet56`, `-67`, `-103`", ["fc-densenet56", "fc-densenet67", "fc-densenet103"]),
        ("`fcn32s`, `fcn16s`, `fcn8s`", ["fcn32s", "fcn16s", "fcn8s"]),
        ("`unet-32`, `unet`", ["unet-32"]),
    ],
)
def test_the_readme_states_the_least_and_greatest_size_and_cost_of_networks(root, first, names):
    result = json.loads((root / "training" / "results" / "equal.json").read_text())
    readme = (root / "training" / "README.md").read_text()
    cells = re.search(rf"^\| {re.escape(first)} \| (.*?) \| (.*?) \|", readme, re.MULTILINE).groups()
    networks = [result["networks"][name] for name in names]
    megas = [network["parameters"] / 1e6 for network in networks]
    gmacs = [network["gmac"] * (256 / result["size"]) ** 2 for network in networks]
    for cell, values in zip(cells, (megas, gmacs), strict=True):
        said = re.findall(r"\d+\.\d+", cell)
        decimals = len(said[0].partition(".")[2])
        assert {f"{extreme(values):.{decimals}f}" for extreme in (min, max)} <= set(said)
