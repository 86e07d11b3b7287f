"""A release: everything that follows from a checkpoint, or nothing where a check fails; and the generated documents."""

import copy
from collections.abc import Callable
from pathlib import Path

import onnx
import pytest
import torch

from bgexport import graph, release
from bgexport.card import BEGIN, END
from bgexport.errors import NoPhotos, OutOfDate, TooLarge
from bgexport.photos import from_folder, labelled
from bgexport.repository import Names, Serving, check
from bgimage.contract import Contract
from bgtrain.checkpoint import Checkpoint

ROOT = Path(__file__).parents[2]


@pytest.fixture
def released(
    exported: Path,
    checkpoint: Checkpoint,
    examples: dict[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Callable[[], release.Release]:
    # an export takes seconds, and ``test_graph`` has shown that it always gives the same bytes
    monkeypatch.setattr(release, "onnx_bytes", lambda checkpoint: exported.read_bytes())
    photos = from_folder(checkpoint.contract, next(iter(examples.values())).parent)[:3]
    return lambda: release.release(
        checkpoint,
        photos,
        models=tmp_path / "models",
        card=tmp_path / "docs" / "model-card.md",
        page=tmp_path / "network.onnx",
        serving=Serving.read(),
    )


def test_a_release_writes_network_configs_card_and_the_pages_network(
    released: Callable[[], release.Release],
    checkpoint: Checkpoint,
    tmp_path: Path,
) -> None:
    done = released()
    check(tmp_path / "models", {Names(): (checkpoint.contract, Serving.read())})
    with pytest.raises(OutOfDate):
        check(tmp_path / "models", {Names(): (Contract(), Serving.read())})
    served, page = onnx.load(done.model), onnx.load(done.page)
    for network, precision in ((served, "fp32"), (page, "fp16-weights")):
        graph.check_graph(network, checkpoint.contract)
        assert graph.metadata(network)["precision"] == precision
        assert graph.metadata(network)["weights_sha256"] == release.weights_sha256(checkpoint)
    assert all(one.passed for one in done.checks)
    card = done.card.read_text()
    assert checkpoint.contract.fingerprint in card
    for path in (done.model, done.page):
        assert graph.sha256_of(path) in card
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
    monkeypatch.setattr(release, "MAX_PAGE_BYTES", 10)
    with pytest.raises(TooLarge, match="web page: bytes"):
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
