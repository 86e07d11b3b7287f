"""A release: everything that follows from a checkpoint, or nothing where a check fails; and the generated documents."""

import copy
from pathlib import Path

import onnx
import pytest
import torch

from bgbench.results import Result
from bgexport import graph, release, table
from bgexport.card import BEGIN, END
from bgexport.errors import NoPhotos, RepositoryDiffers, TooLarge
from bgexport.photos import Picture, from_folder, labelled
from bgexport.repository import Serving, check
from bgimage.contract import Contract
from bgtrain.checkpoint import Checkpoint

ROOT = Path(__file__).parents[2]
RESULTS = sorted((ROOT / "benchmarks" / "results" / "engines").glob("*.json"))


@pytest.fixture(autouse=True)
def exported_once(exported: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An export takes seconds, and ``test_graph`` has shown that it always gives the same bytes."""
    monkeypatch.setattr(release, "onnx_bytes", lambda checkpoint: exported.read_bytes())


def released(folder: Path, checkpoint: Checkpoint, pictures: list[Picture]) -> release.Release:
    return release.release(
        checkpoint,
        pictures[:3],
        models=folder / "models",
        card=folder / "docs" / "model-card.md",
        browser=folder / "network.onnx",
        serving=Serving.read(),
    )


def test_a_release_writes_network_configs_card_and_the_browsers_network(
    checkpoint: Checkpoint, pictures: list[Picture], tmp_path: Path
) -> None:
    done = released(tmp_path, checkpoint, pictures)
    check(tmp_path / "models", checkpoint.contract, Serving.read())
    with pytest.raises(RepositoryDiffers):
        check(tmp_path / "models", Contract(), Serving.read())
    assert graph.metadata(onnx.load(done.browser))["precision"] == "int8-weights"
    assert all(one.passed for one in done.checks)
    card = done.card.read_text()
    assert graph.sha256_of(done.model) in card
    assert checkpoint.contract.fingerprint in card
    assert "| score | 0.5 |" in card
    # people's prose survives the next release, stale facts do not
    head, _, tail = card.partition(BEGIN)
    done.card.write_text(f"{head}{BEGIN}stale{END}\n\n## Data\n\nPhotos.\n")
    released(tmp_path, checkpoint, pictures)
    again = done.card.read_text()
    assert "stale" not in again
    assert again.endswith("## Data\n\nPhotos.\n")
    assert END in tail


def test_a_failed_check_leaves_the_served_network_alone(
    checkpoint: Checkpoint, pictures: list[Picture], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    served = tmp_path / "models" / "tiramisu_onnx" / "1" / "model.onnx"
    served.parent.mkdir(parents=True)
    served.write_bytes(b"as before")
    monkeypatch.setattr(release, "MAX_BROWSER_BYTES", 10)
    with pytest.raises(TooLarge, match="browser: bytes"):
        released(tmp_path, checkpoint, pictures)
    assert served.read_bytes() == b"as before"
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [served]


def test_the_hash_of_the_weights_is_that_of_their_values(checkpoint: Checkpoint) -> None:
    twin = copy.copy(checkpoint)
    twin.weights = dict(reversed(list(checkpoint.weights.items())))
    assert release.weights_sha256(twin) == release.weights_sha256(checkpoint)
    name = next(iter(twin.weights))
    twin.weights = {**checkpoint.weights, name: torch.nextafter(checkpoint.weights[name], torch.tensor(9.0))}
    assert release.weights_sha256(twin) != release.weights_sha256(checkpoint)


def test_no_photos_are_said_with_the_mend(contract: Contract, tmp_path: Path) -> None:
    with pytest.raises(NoPhotos, match="BGCLIENT_DATA"):
        labelled(contract, split="test", count=5, folder=tmp_path / "nowhere")
    with pytest.raises(NoPhotos, match="jpg"):
        from_folder(contract, tmp_path)


@pytest.mark.shared
def test_labelled_photos_come_from_every_pool_and_not_from_another_split(
    shared_data: Path, contract: Contract
) -> None:
    test, train = (
        labelled(contract, split=split, count=10, folder=shared_data) for split in ("test", "train")
    )
    assert len({picture.pool for picture in test}) == 5
    assert not {picture.name for picture in test} & {picture.name for picture in train}
    for picture in test:
        assert picture.truth is not None
        assert picture.truth.shape == contract.size_hw
        assert picture.truth[picture.inside].max() > 0.5
        assert 0 <= picture.truth.min() <= picture.truth.max() <= 1


@pytest.mark.parametrize("path", RESULTS, ids=lambda path: path.stem)
def test_the_table_in_the_docs_is_made_from_the_committed_values(path: Path) -> None:
    assert table.table(Result.read(path)) in (ROOT / "docs" / "export.md").read_text()
