"""The metrics on shapes whose errors are known, and the evaluation around them on a tiny folder of shards."""

import csv
import json
import math

import cv2
import numpy as np
import pytest

from bgtrain import __main__ as command_line
from bgtrain import compare, evaluate, metrics, sheets, slices
from bgtrain.errors import BrokenData, DataError, MissingData
from bgtrain.shards import Row, Sample, Shards, png, write_shards


def square(left, top, side, size=100):
    alpha = np.zeros((size, size), np.float32)
    alpha[top : top + side, left : left + side] = 1
    return alpha


def test_a_perfect_matte_has_no_error():
    truth = cv2.GaussianBlur(square(20, 20, 50), (0, 0), 3)
    scores = metrics.score(truth, truth)
    assert (scores.iou, scores.boundary_iou) == (1, 1)
    assert (scores.mae, scores.sad, scores.mse, scores.connectivity) == (0, 0, 0, 0)
    assert scores.gradient == pytest.approx(0, abs=1e-9)  # filters round by the alignment of their input


def test_the_errors_of_a_shifted_square_are_those_on_paper():
    alpha, truth = square(30, 20, 40), square(20, 20, 40)
    scores = metrics.score(alpha, truth)
    assert scores.iou == pytest.approx(30 / 50)
    assert scores.mae == pytest.approx(2 * 10 * 40 / 100**2)
    assert scores.sad == pytest.approx(0.8)
    assert scores.mse == pytest.approx(80)
    assert scores.marked == pytest.approx(0.16)


def test_iou_of_nobody_against_nobody_is_perfect_and_against_somebody_zero():
    nobody, somebody = np.zeros((9, 9), bool), np.ones((9, 9), bool)
    assert metrics.iou(nobody, nobody) == 1
    assert metrics.iou(somebody, nobody) == 0


def test_the_boundary_band_is_two_per_cent_of_the_diagonal_wide():
    band = metrics.boundary(square(20, 20, 50) > 0)
    reach = round(0.02 * math.hypot(100, 100))
    assert band[45, 20 : 20 + reach].all()
    assert not band[45, 20 + reach]
    assert band.sum() == 50**2 - (50 - 2 * reach) ** 2


def test_the_border_of_the_photo_is_a_boundary_too():
    assert metrics.boundary(np.ones((100, 100), bool))[0, 50]


def test_boundary_iou_sees_what_iou_hides_on_large_shapes():
    truth = square(5, 5, 90) > 0
    eroded = cv2.erode(truth.astype(np.uint8), np.ones((5, 5), np.uint8)) > 0
    assert metrics.iou(eroded, truth) > 0.9
    assert metrics.boundary_iou(eroded, truth) < 0.4


def test_gradient_error_punishes_a_blurred_edge_and_not_the_exact_one():
    truth = square(20, 20, 50)
    assert metrics.gradient_error(truth.copy(), truth) == pytest.approx(0, abs=1e-9)
    assert metrics.gradient_error(cv2.GaussianBlur(truth, (0, 0), 4), truth) > 0.05


def test_gradient_filters_have_the_published_norm():
    impulse = np.zeros((41, 41), np.float32)
    impulse[20, 20] = 1
    # the two derivative filters of norm 1 answer an impulse with their own squares, which sum to 2
    assert metrics.gradient_error(impulse, np.zeros_like(impulse)) * 1e3 == pytest.approx(2, rel=1e-4)


def test_connectivity_error_counts_the_loose_part():
    truth = square(10, 10, 40)
    loose = truth.copy()
    loose[80:90, 80:90] = 1
    assert metrics.connectivity_error(loose, truth) == pytest.approx(100 / 1e3)


def test_connectivity_forgives_what_stays_within_the_tolerance():
    truth = square(10, 10, 40)
    assert metrics.connectivity_error(truth * np.float32(0.95), truth) == pytest.approx(0, abs=1e-6)


def test_a_ghost_is_half_transparent_and_far_from_the_outline():
    truth = np.zeros((100, 100), np.float32)
    truth[:, 50:] = 1
    alpha = truth.copy()
    alpha[:, 48:52] = 0.5  # a soft edge, within 2 % of the diagonal
    assert metrics.ghost(alpha, truth) == 0
    alpha[10:20, 80:90] = 0.5
    alpha[10:20, 10:20] = 0.95  # wrong, but decided
    assert metrics.ghost(alpha, truth) == pytest.approx(0.01)
    assert metrics.ghost(np.full_like(truth, 0.5), np.zeros_like(truth)) == 1


def test_calibration_error_is_zero_where_alpha_is_the_share_of_person():
    truth = np.zeros((100, 100), np.float32)
    truth[::2] = 1
    assert metrics.calibration_error(
        metrics.calibration_bins(np.full_like(truth, 0.5), truth)
    ) == pytest.approx(0)
    sure = metrics.calibration_bins(np.full_like(truth, 0.9), truth)
    assert metrics.calibration_error(sure) == pytest.approx(0.4, abs=1e-6)


def test_mattes_of_different_shapes_are_refused():
    with pytest.raises(ValueError, match="one shape"):
        metrics.score(np.zeros((2, 3), np.float32), np.zeros((3, 2), np.float32))


def row(**fields):
    defaults = {"key": "k", "shard": "s", "pool": "coco_person", "split": "val", "label": "polygon"}
    return Row(**{**defaults, "width": 100, "height": 100, "person_fraction": 0.3, **fields})


def matte(mask):
    return np.where(mask > 0, 255, 0).astype(np.uint8)


def figure(left, top, width, height):
    mask = np.zeros((100, 100), np.uint8)
    mask[top : top + height, left : left + width] = 255
    return mask


@pytest.mark.parametrize(
    ("fields", "mask", "expected"),
    [
        (
            {"persons": 1},
            figure(20, 20, 60, 80),
            {"20-70 % people", "<= 3 people, 20-70 %", "one person", "portrait"},
        ),
        ({"persons": 4}, figure(20, 20, 60, 80), {"20-70 % people", "many people", "portrait"}),
        ({"persons": 1, "person_fraction": 0.1}, figure(40, 10, 20, 80), {"one person", "full body"}),
        (
            {"persons": None, "pool": "ccp", "label": "pixel"},
            figure(40, 10, 20, 80),
            {"one person", "full body"},
        ),
        ({"pool": "people_pseudo", "label": "pseudo"}, figure(20, 20, 60, 80), {"portrait"}),
        ({"persons": 1, "person_fraction": 0.05}, figure(10, 10, 5, 5), {"one person", "small people"}),
        ({"label": "none"}, figure(0, 0, 0, 0), set()),
    ],
)
def test_slices_follow_index_and_shape(fields, mask, expected):
    assert set(slices.slices_of(row(**fields), mask)) == expected


def test_people_behind_something_are_those_drawn_in_several_pieces():
    found = slices.slices_of(row(persons=1), figure(20, 20, 60, 80), {"k": 2})
    assert "behind something" in found
    assert "behind something" not in slices.slices_of(row(persons=1), figure(20, 20, 60, 80), {"k": 1})


def test_a_soft_upper_contour_makes_the_hair_slice():
    soft = cv2.GaussianBlur(figure(20, 20, 60, 80), (0, 0), 3)
    assert "hair" in slices.slices_of(row(label="pseudo"), soft)
    assert "hair" not in slices.slices_of(row(label="pseudo"), figure(20, 20, 60, 80))


@pytest.mark.parametrize(
    ("key", "animal"),
    [
        ("neg_imagenet_in_n01440764_tench", True),
        ("neg_imagenet_in_n02655020_puffer", True),
        ("neg_imagenet_in_n02666196_abacus", False),
        ("neg_davis_goat_00044", True),
        ("neg_davis_car-shadow_00010", False),
        ("neg_coco_000000000394", None),
    ],
)
def test_animals_are_told_by_the_key_where_it_tells(key, animal):
    assert slices.is_animal(key) is animal


@pytest.mark.shared
def test_every_tagged_key_is_a_photo_of_val_or_test(shared_data):
    with (shared_data / "index.csv").open(newline="") as lines:
        splits = {line["key"]: line["split"] for line in csv.DictReader(lines)}
    assert {splits[key] for key in slices.key_list("held_things.txt")} == {"val", "test"}


SIZE = (96, 64)


@pytest.fixture
def data(tmp_path):
    """Two people photos and one of nobody, with an index."""
    rng = np.random.default_rng(0)
    truth = np.zeros(SIZE[::-1], np.uint8)
    truth[16:56, 20:60] = 255
    samples = []
    for number, (pool, label) in enumerate(
        (("ccp", "pixel"), ("people_pseudo", "pseudo"), ("neg_coco", "empty"))
    ):
        photo = rng.integers(0, 255, (*SIZE[::-1], 3), np.uint8)
        samples.append(
            Sample(
                key=f"{pool}_{number}",
                jpeg=cv2.imencode(".jpg", photo)[1].tobytes(),
                matte=None if label == "empty" else truth,
                size_hw=SIZE[::-1],
                pool=pool,
                label=label,
                split="val",
            )
        )
    write_shards(samples, tmp_path / "data")
    return tmp_path / "data"


@pytest.fixture
def alphas(data, tmp_path):
    """What a perfect tool would write, in three shapes of file."""
    folder = tmp_path / "alphas"
    folder.mkdir()
    with Shards(data) as packed:
        truth = packed.matte("ccp_0")
    (folder / "ccp_0.png").write_bytes(png(truth))
    colour = np.dstack([np.full((*truth.shape, 3), 90, np.uint8), truth])
    cv2.imwrite(str(folder / "people_pseudo_1.png"), colour)
    cv2.imwrite(str(folder / "neg_coco_2.png"), np.zeros((32, 48), np.uint16))  # half the size
    return folder


def test_a_tool_that_writes_the_truth_scores_perfectly(data, alphas, tmp_path, capsys):
    assert (
        evaluate.main(["--alphas", str(alphas), "--data", str(data), "--json", str(tmp_path / "out.json")])
        == 0
    )
    result = json.loads((tmp_path / "out.json").read_text())
    assert result["pools"]["ccp"]["iou"] == {"mean": 1, "se": 0}
    assert result["pools"]["people_pseudo"]["mae"]["mean"] == 0
    assert result["pools"]["neg_coco"]["marked"]["mean"] == 0
    assert result["slices"]["no people"]["photos"] == 1
    assert len(result["raw"]) == 3
    (target,) = (target for target in result["targets"] if target["name"] == "ccp")
    assert (target["limit"], target["met"]) == (0.96, True)
    assert "ccp_0" in result["members"]["one person"]
    printed = capsys.readouterr().out
    assert "| ccp | >= 0.96 | 1.000 | yes |" in printed
    assert "no people in the photo" in printed


def test_a_missed_target_is_said_so(data, alphas, capsys):
    cv2.imwrite(str(alphas / "ccp_0.png"), np.zeros(SIZE[::-1], np.uint8))
    cv2.imwrite(str(alphas / "neg_coco_2.png"), np.full(SIZE[::-1], 255, np.uint8))
    evaluate.main(["--alphas", str(alphas), "--data", str(data)])
    printed = capsys.readouterr().out
    assert "| ccp | >= 0.96 | 0.000 | no |" in printed
    assert "| area marked on photos without people | <= 0.5% | 100.00% | no |" in printed


def test_an_alpha_that_the_tool_did_not_write_is_named(data, alphas):
    (alphas / "ccp_0.png").unlink()
    with pytest.raises(MissingData, match="alpha for ccp_0"):
        evaluate.main(["--alphas", str(alphas), "--data", str(data)])


def test_the_sheet_shows_the_worst_photo_first(data, alphas, tmp_path):
    cv2.imwrite(str(alphas / "ccp_0.png"), np.zeros(SIZE[::-1], np.uint8))
    with Shards(data, split="val") as packed:
        tool = evaluate.AlphaFolder(alphas)
        sheet = evaluate.worst_sheet(evaluate.score_photos(tool, packed), tool, packed)
    assert (sheet == sheets.MISSED).all(axis=2)[: sheet.shape[0] // 2, : sheet.shape[1] // 2].sum() > 500
    assert not (sheet == sheets.FALSE).all(axis=2).any()


def test_an_empty_choice_of_photos_is_an_error_that_says_so(data, alphas):
    with pytest.raises(DataError, match="no photos of split 'test'"):
        evaluate.main(["--alphas", str(alphas), "--data", str(data), "--split", "test"])


class Bright:
    """A network that takes the red channel for the alpha, 64x64, as an ONNX session would."""

    @staticmethod
    def save(path, contract):
        onnx = pytest.importorskip("onnx")
        helper, kinds = onnx.helper, onnx.TensorProto
        nodes = [
            helper.make_node("Slice", ["image", "start", "end", "axis"], ["red"]),
            helper.make_node("Cast", ["red"], ["float"], to=kinds.FLOAT),
            helper.make_node("Div", ["float", "top"], ["alpha"]),
        ]
        numbers = {"start": [0], "end": [1], "axis": [1]}
        constants = [helper.make_tensor(name, kinds.INT64, [1], value) for name, value in numbers.items()]
        constants.append(helper.make_tensor("top", kinds.FLOAT, [], [255.0]))
        graph = helper.make_graph(
            nodes,
            "bright",
            [helper.make_tensor_value_info("image", kinds.UINT8, ["n", 3, 64, 64])],
            [helper.make_tensor_value_info("alpha", kinds.FLOAT, ["n", 1, 64, 64])],
            constants,
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        if contract is not None:
            onnx.helper.set_model_props(model, {"contract": contract.to_json()})
        onnx.save(model, path)


@pytest.fixture
def red_man():
    """JPEG of a red rectangle on black and its alpha."""
    photo = np.zeros((100, 200, 3), np.uint8)
    photo[30:70, 60:140, 2] = 255
    return cv2.imencode(".jpg", photo, [cv2.IMWRITE_JPEG_QUALITY, 100])[1].tobytes(), photo[..., 2] > 0


def test_an_onnx_network_runs_behind_the_serving_pre_and_post_processing(red_man, tmp_path):
    pytest.importorskip("onnxruntime")
    from bgimage.contract import Contract

    Bright.save(tmp_path / "bright.onnx", Contract(size_hw=(64, 64)))
    network = evaluate.Pipeline(tmp_path / "bright.onnx", edges="none")
    alpha = network.alpha("k", red_man[0])
    assert alpha.shape == (100, 200)
    assert metrics.iou(metrics.mask_of(alpha), red_man[1]) > 0.9
    described = network.describe()
    assert described["size_hw"] == [64, 64]
    assert described["edges"] == "none"
    assert len(described["sha256"]) == 64


def test_an_onnx_network_without_contract_is_refused(tmp_path):
    pytest.importorskip("onnxruntime")
    Bright.save(tmp_path / "bare.onnx", None)
    with pytest.raises(BrokenData, match="carries no contract"):
        evaluate.Pipeline(tmp_path / "bare.onnx")


def test_a_checkpoint_and_the_same_network_by_hand_agree(red_man, tmp_path):
    torch = pytest.importorskip("torch")
    from bgimage import codec, geometry
    from bgimage.contract import Contract
    from bgtrain import checkpoint, networks

    torch.manual_seed(0)
    contract = Contract(size_hw=(64, 64))
    model = networks.build("tiramisu").eval()
    checkpoint.Checkpoint("tiramisu", contract, {}, {}, model.state_dict()).save(tmp_path / "a.pt")
    photo = codec.decode(red_man[0])
    got = evaluate.Pipeline(tmp_path / "a.pt").network_alpha(photo)
    image = torch.from_numpy(geometry.network_input(photo, contract)[None]).float() / 255
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (contract.mean, contract.std))
    with torch.inference_mode():
        expected = model((image - mean) / std).sigmoid()[0, 0].numpy()
    np.testing.assert_allclose(got, expected, atol=1e-5)


def test_a_missing_network_is_named(tmp_path):
    with pytest.raises(MissingData, match=r"nowhere\.onnx"):
        evaluate.Pipeline(tmp_path / "nowhere.onnx")


def test_evaluations_are_compared_photo_by_photo(data, alphas, tmp_path, capsys):
    evaluate.main(["--alphas", str(alphas), "--data", str(data), "--json", str(tmp_path / "good.json")])
    half = np.zeros(SIZE[::-1], np.uint8)
    half[16:56, 20:40] = 255
    cv2.imwrite(str(alphas / "ccp_0.png"), half)
    evaluate.main(["--alphas", str(alphas), "--data", str(data), "--json", str(tmp_path / "half.json")])
    capsys.readouterr()
    assert compare.main([str(tmp_path / "good.json"), str(tmp_path / "half.json")]) == 0
    first, second = capsys.readouterr().out.splitlines()[2:]
    assert first.startswith("| good | 1.000 ± 0.000 / 1.000")
    assert second.startswith("| half | 0.500 ± 0.000")
    assert "-0.2500 ± 0.2500 (2 photos)" in second


def test_a_file_that_is_no_evaluation_is_named(tmp_path):
    (tmp_path / "a.json").write_text("{}")
    with pytest.raises(BrokenData, match=r"a\.json is not an evaluation: it lacks pools"):
        compare.read_result(tmp_path / "a.json")


def test_the_command_line_lists_its_commands_and_names_errors(capsys):
    assert command_line.main(["--help"]) == 0
    assert "evaluate" in capsys.readouterr().out
    assert command_line.main(["evalute"]) == 2
    assert "usage" in capsys.readouterr().err
    assert command_line.main(["compare", "nowhere.json"]) == 1
    assert capsys.readouterr().err.startswith("MissingData: no evaluation at nowhere.json")
