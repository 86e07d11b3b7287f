"""A release: everything that follows from a checkpoint, or nothing where a check fails; and the generated documents."""

import copy
from collections.abc import Callable
from pathlib import Path

import onnx
import pytest
import torch

from bgexport import graph, release
from bgexport.card import BEGIN, END
from bgexport.errors import NoPhotos, RepositoryDiffers, TooLarge
from bgexport.photos import from_folder, labelled
from bgexport.repository import Names, Serving, check
from bgimage.contract import Contract
from bgtrain.checkpoint import Checkpoint

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def both(exported: Path, checkpoint: Checkpoint, browser_checkpoint: Checkpoint) -> dict[Contract, bytes]:
    """An export takes seconds, and ``test_graph`` has shown that it always gives the same bytes."""
    return {
        checkpoint.contract: exported.read_bytes(),
        browser_checkpoint.contract: release.onnx_bytes(browser_checkpoint),
    }


@pytest.fixture
def released(
    both: dict[Contract, bytes],
    checkpoint: Checkpoint,
    browser_checkpoint: Checkpoint,
    examples: dict[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Callable[[], release.Release]:
    monkeypatch.setattr(release, "onnx_bytes", lambda checkpoint: both[checkpoint.contract])
    photos = next(iter(examples.values())).parent
    return lambda: release.release(
        checkpoint,
        browser_checkpoint,
        lambda contract: from_folder(contract, photos)[:3],
        models=tmp_path / "models",
        card=tmp_path / "docs" / "model-card.md",
        page=tmp_path / "network.onnx",
        serving=Serving.read(),
    )


def test_a_release_writes_network_configs_card_and_the_browsers_network(
    released: Callable[[], release.Release],
    checkpoint: Checkpoint,
    browser_checkpoint: Checkpoint,
    tmp_path: Path,
) -> None:
    done = released()
    check(tmp_path / "models", {Names(): (checkpoint.contract, Serving.read())})
    with pytest.raises(RepositoryDiffers):
        check(tmp_path / "models", {Names(): (Contract(), Serving.read())})
    served, browser = onnx.load(done.model), onnx.load(done.page)
    assert graph.contract_of(served) == checkpoint.contract
    graph.check_graph(browser, browser_checkpoint.contract)
    assert graph.metadata(browser)["precision"] == "int8-weights"
    assert graph.metadata(browser)["weights_sha256"] == release.weights_sha256(browser_checkpoint)
    assert all(one.passed for one in done.checks)
    card = done.card.read_text()
    for path, source in ((done.model, checkpoint), (done.page, browser_checkpoint)):
        assert graph.sha256_of(path) in card
        assert source.contract.fingerprint in card
    assert "| score | 0.5 |" in card
    # people's prose survives the next release, stale facts do not
    head, _, tail = card.partition(BEGIN)
    done.card.write_text(f"{head}{BEGIN}stale{END}\n\n## Data\n\nPhotos.\n")
    released()
    again = done.card.read_text()
    assert "stale" not in again
    assert again.endswith("## Data\n\nPhotos.\n")
    assert END in tail


def test_a_failed_check_leaves_the_served_network_alone(
    released: Callable[[], release.Release], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    served = tmp_path / "models" / "tiramisu_onnx" / "1" / "model.onnx"
    served.parent.mkdir(parents=True)
    served.write_bytes(b"as before")
    monkeypatch.setattr(release, "MAX_BROWSER_BYTES", 10)
    with pytest.raises(TooLarge, match="browser: bytes"):
        released()
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
