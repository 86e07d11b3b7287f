"""What ``bgexport hub`` writes: read by the hub's own library, and the card's code run; without a connection."""

import json
import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("safetensors", reason="the extra 'hub' is not installed")

from safetensors import safe_open

from bgexport import graph, hub
from bgexport.errors import ExportError, OutOfDate
from bgimage.contract import Contract
from bgtrain import checkpoint as checkpoints

ROOT = Path(__file__).parents[2]
SERVED = ROOT / "model_repository/tiramisu_onnx/1/model.onnx"
WEIGHTS, RESULTS = ROOT / "training/weights", ROOT / "training/results"


@pytest.fixture(scope="module")
def committed():
    return hub.Committed.read(SERVED, WEIGHTS, RESULTS)


@pytest.fixture(scope="module")
def folder(committed, tmp_path_factory):
    """The written folder, with a photo in it; no connection was opened."""

    def refuse(*_):
        raise AssertionError("a connection was opened")

    folder = tmp_path_factory.mktemp("hub")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", refuse)
        hub.write(folder, committed, document=ROOT / "docs/model-card.md", licence=ROOT / "LICENSE")
    Image.open(ROOT / "examples/grace_hopper.jpg").save(folder / "photo.jpg", quality=95)
    return folder


def test_the_hub_s_library_reads_the_card_s_head_and_finds_the_committed_figures(folder, committed):
    from huggingface_hub import ModelCard, constants  # by now offline

    assert constants.HF_HUB_OFFLINE
    assert constants.HF_HUB_DISABLE_TELEMETRY
    data = ModelCard.load(folder / "README.md", ignore_metadata_errors=False).data
    assert (data.license, data.license_link) == ("other", "LICENSE")
    assert (data.pipeline_tag, data.library_name) == ("image-segmentation", "bgclient")
    made = json.loads((RESULTS / "tiramisu-made.json").read_text())
    recipes = [stage["recipe"]["data"] for stage in made["stages"] if "recipe" in stage]
    for pools in (*(one["pools"] for one in recipes), *(one.get("backgrounds", ()) for one in recipes)):
        assert set(pools) <= set(data.datasets)
    assert committed.facts["network"] in data.model_name
    found = {one.dataset_type: one.metric_value for one in data.eval_results}
    pools = committed.result["pools"]
    assert found == {pool: scores["iou"]["mean"] for pool, scores in pools.items() if "iou" in scores}
    assert len(found) >= 5


def test_the_card_states_data_failures_and_licence_and_has_no_link_that_leads_nowhere(folder):
    text = (folder / "README.md").read_text()
    assert "research only" in text
    for title in hub.SECTIONS:
        assert len(re.search(rf"^## {title}\n\n(.*?)(?=^## |\Z)", text, re.M | re.S)[1]) > 200
    assert not re.findall(r"\]\((?!https?:)", text)
    assert "$" not in text


def test_the_files_are_the_served_graph_and_its_weights(folder, committed):
    assert (folder / "model.onnx").read_bytes() == SERVED.read_bytes()
    with safe_open(folder / "model.safetensors", framework="np") as weights:
        assert set(weights.keys()) == set(committed.checkpoint.weights)
        assert weights.metadata()["weights_sha256"] == committed.facts["weights_sha256"]
    config = json.loads((folder / "config.json").read_text())
    assert Contract.from_json(json.dumps(config["contract"])) == committed.contract
    wanted = json.loads((folder / "preprocessor_config.json").read_text())
    assert (wanted["size"]["height"], wanted["size"]["width"]) == committed.contract.size_hw


COMPARE = """
import numpy as np
import torch
from PIL import Image
import onnxruntime

wanted = json.load(open("preprocessor_config.json"))
size = wanted["size"]["width"], wanted["size"]["height"]
image = np.asarray(Image.open("photo.jpg").convert("RGB").resize(size)).transpose(2, 0, 1)[None].copy()
mean, std = (torch.tensor(wanted[name]).view(1, 3, 1, 1) for name in ("image_mean", "image_std"))
with torch.inference_mode():
    found = network((torch.from_numpy(image).float() * wanted["rescale_factor"] - mean) / std).sigmoid().numpy()
session = onnxruntime.InferenceSession("model.onnx", providers=["CPUExecutionProvider"])
(alpha,) = session.run(None, {session.get_inputs()[0].name: image})
print(abs(found - alpha).max(), alpha.max())
"""


def test_the_card_s_code_runs_and_all_three_ways_see_the_same_person(folder):
    blocks = re.findall(r"^```python\n(.*?)^```", (folder / "README.md").read_text(), re.M | re.S)
    assert len(blocks) == 3
    mattes, said = [], []
    for block in (*blocks[:2], blocks[2] + COMPARE):
        (folder / "cutout.png").unlink(missing_ok=True)
        done = subprocess.run(
            [sys.executable, "-c", block],
            cwd=folder,
            capture_output=True,
            text=True,
            env={**os.environ, "BGCLIENT_URL": "", "BGCLIENT_ENGINE": ""},
        )
        assert done.returncode == 0, done.stderr[-2000:]
        said.append(done.stdout)
        if (folder / "cutout.png").exists():
            mattes.append(np.asarray(Image.open(folder / "cutout.png").getchannel("A")) > 127)
    one, other = mattes
    assert (one & other).sum() > 0.97 * (one | other).sum()
    difference, most = map(float, said[2].split())
    assert difference < 1e-3 < 0.9 < most


def test_a_graph_without_its_weights_or_its_result_is_refused(committed, tmp_path):
    name = committed.facts["network"]
    with pytest.raises(checkpoints.CheckpointError, match=name):
        hub.Committed.read(SERVED, tmp_path, RESULTS)
    other = checkpoints.load(WEIGHTS / f"{name}.pt")
    first = next(iter(other.weights))
    other.weights[first] = other.weights[first] + 1
    other.save(tmp_path / f"{name}.pt")
    with pytest.raises(OutOfDate, match="bgexport release"):
        hub.Committed.read(SERVED, tmp_path, RESULTS)
    with pytest.raises(OutOfDate, match=graph.sha256_of(SERVED)[:12]):
        hub.Committed.read(SERVED, WEIGHTS, tmp_path)
    with pytest.raises(ExportError, match="'Data'"):
        hub.card(committed, "# Model card\n")
