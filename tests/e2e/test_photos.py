"""Real photos through the real server: the right pixels, whoever asks and whoever else is in the batch."""

import io
import re
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tritonclient.utils import InferenceServerException

from bgimage.codec import decode
from bgimage.errors import from_message
from bgimage.finish import finish
from bgimage.options import Options
from bgimage.strokes import Stroke

pytestmark = pytest.mark.server

GREY_LEVEL = 1 / 255
"""The smallest difference that an 8-bit matte can show."""

BATCH_MATE_DIFFERENCE = 1e-3
"""Kernels may be chosen by batch size, so FP32 differs in its last bits; a quarter of a grey level."""

NAMES = ("astronaut", "camera", "chelsea", "grace_hopper", "rocket")


@pytest.fixture
def photos(examples):
    return {name: examples[name].read_bytes() for name in NAMES}


@pytest.mark.parametrize("name", NAMES)
def test_alpha_over_grpc_and_http_is_that_of_the_network_in_process(
    photos, ask, http_matte, in_process, name
):
    expected = in_process(photos[name])
    assert 0 <= expected.min() <= expected.max() <= 1 + 1e-6  # ONNX Runtime's sigmoid may round 1 up
    assert np.abs(ask.matte(photos[name])[0] - expected).mean() <= GREY_LEVEL
    assert np.abs(http_matte(photos[name])[0] - expected).mean() <= GREY_LEVEL


@pytest.mark.parametrize("name", NAMES)
def test_a_cutout_is_what_finishing_makes_of_the_network_s_answer(photos, ask, in_process, contract, name):
    (png,) = ask.cutout(photos[name])
    served = np.asarray(Image.open(io.BytesIO(png)))
    photo = decode(photos[name])
    assert served.shape == (*photo.size_hw, 4)
    expected = finish(photo, in_process(photos[name]), contract, Options()).pixels
    difference = np.abs(served[..., 3].astype(float) - expected[..., 3]).mean()
    assert difference <= 1, "alpha differs by more than a grey level on average"


def test_training_photos_of_every_kind_come_back_as_the_network_answers_in_process(
    shared_data, ask, in_process
):
    import tarfile

    with tarfile.open(shared_data / "people-00.tar") as tar:
        members = [m for m in tar if m.name.endswith((".jpg", ".jpeg", ".png")) and "alpha" not in m.name][:6]
        photos = [tar.extractfile(member).read() for member in members]
    assert len(photos) == 6
    for photo in photos:
        assert np.abs(ask.matte(photo)[0] - in_process(photo)).mean() <= GREY_LEVEL


def test_several_photos_in_one_request_come_back_each_at_its_own_size(photos, ask):
    pngs = ask.cutout(*photos.values())
    assert [Image.open(io.BytesIO(png)).size for png in pngs] == [
        Image.open(io.BytesIO(photo)).size for photo in photos.values()
    ]


def test_one_stroke_brings_back_what_the_network_lost_and_the_server_makes_the_same_pixels(
    photos, ask, in_process, contract
):
    """The visor of the helmet, which a network that knows people leaves out."""
    options = Options(keep=[Stroke(((320, 440), (470, 440)), 8)])
    photo, alpha = decode(photos["astronaut"]), in_process(photos["astronaut"])
    visor = np.s_[400:490, 310:480]
    lost = finish(photo, alpha, contract, Options()).matte[visor]
    kept = finish(photo, alpha, contract, options)
    assert lost.mean() < 0.3 * 255
    assert kept.matte[visor].mean() > 0.97 * 255
    (png,) = ask.cutout(
        photos["astronaut"], options={"keep": [{"points": [[320, 440], [470, 440]], "radius": 8}]}
    )
    served = np.asarray(Image.open(io.BytesIO(png)))
    assert np.abs(served[..., 3].astype(float) - kept.pixels[..., 3]).mean() <= 1


def test_options_reach_the_server(photos, ask):
    (grey,) = ask.cutout(photos["astronaut"], options={"output": "matte"})
    assert Image.open(io.BytesIO(grey)).mode == "L"
    (jpeg,) = ask.cutout(photos["astronaut"], options={"background": "#ff0000", "format": "jpeg"})
    picture = Image.open(io.BytesIO(jpeg))
    assert (picture.format, picture.mode) == ("JPEG", "RGB")


BAD = {
    "empty": (b"", "empty_photo"),
    "text": (b"this is no photo, it is a sentence", "unknown_format"),
    "truncated JPEG": ("grace_hopper", "broken_photo"),
    "truncated PNG": ("chelsea", "broken_photo"),
    "garbage after a JPEG's first bytes": (b"\xff\xd8\xff" + bytes(range(256)) * 8, "broken_photo"),
    "30000 x 30000 pixels": ("png_bomb", "too_many_pixels"),
}


@pytest.fixture(params=BAD)
def bad(request, photos, png_bomb):
    photo, code = BAD[request.param]
    if photo == "png_bomb":
        return png_bomb, code
    return (photos[photo][: len(photos[photo]) // 2] if isinstance(photo, str) else photo), code


def test_a_bad_photo_is_refused_as_an_invalid_argument_that_names_it(bad, ask):
    photo, code = bad
    for model in (ask.cutout, ask.matte):
        with pytest.raises(InferenceServerException) as caught:
            model(photo)
        assert caught.value.status() == "StatusCode.INVALID_ARGUMENT"
        assert from_message(caught.value.message()).code == code
        assert "/" not in re.sub(r"\d+/\d+", "", caught.value.message()), "a path of the server leaked"


def test_a_bad_photo_harms_nobody_else_in_the_batch(bad, photos, ask):
    photo, code = bad
    good = list(photos.values())
    alone = [ask.matte(p)[0] for p in good]
    together = ask.many("matte", "alpha", [*good[:3], photo, *good[3:]])
    refusal = together.pop(3)
    assert from_message(refusal.message()).code == code
    for one, expected in zip(together, alone, strict=True):
        assert np.abs(one[0, 0] - expected).max() <= BATCH_MATE_DIFFERENCE


def test_refusing_a_bomb_takes_no_memory(png_bomb, ask, server):
    def peak_kib():
        total = 0
        for status in Path("/proc").glob("[0-9]*/status"):
            text = status.read_text()
            if f"PPid:\t{server.facts['pid']}\n" in text:
                total += int(re.search(r"VmHWM:\s+(\d+)", text)[1])
        return total

    before = peak_kib()
    for _ in range(5):
        with pytest.raises(InferenceServerException):
            ask.cutout(png_bomb)
    assert peak_kib() - before < 64 * 1024, "900 megapixels were decoded, or at least allocated"


def test_photos_that_are_too_large_together_are_refused_before_they_are_decoded(ask):
    black = io.BytesIO()
    Image.new("1", (7000, 7000)).save(black, "PNG")  # 49 megapixels in a few kilobytes
    for model in (ask.cutout, ask.matte):
        with pytest.raises(InferenceServerException, match=r"batch_too_large: 3 photos of 147\.0 megapixels"):
            model(*[black.getvalue()] * 3)


def test_an_unknown_option_is_refused_by_name(photos, ask):
    with pytest.raises(InferenceServerException, match=r"bad_option: .*colour_of_hat"):
        ask.cutout(photos["chelsea"], options={"colour_of_hat": "red"})


def test_more_photos_than_a_batch_holds_are_refused(photos, ask):
    with pytest.raises(InferenceServerException, match=r"batch-size must be <= 8"):
        ask.matte(*[photos["chelsea"]] * 9)


def test_the_answer_does_not_depend_on_batch_mates(photos, ask):
    alone = {name: ask.matte(photo)[0] for name, photo in photos.items()}
    order = [*NAMES, *NAMES[::-1]][:8]
    in_one_request = ask.matte(*(photos[name] for name in order))
    at_the_same_time = ask.many("matte", "alpha", [photos[name] for name in order])
    for name, joined, beside in zip(order, in_one_request, at_the_same_time, strict=True):
        assert np.abs(joined - alone[name]).max() <= BATCH_MATE_DIFFERENCE
        assert np.abs(beside[0, 0] - alone[name]).max() <= BATCH_MATE_DIFFERENCE


def test_requests_that_come_together_run_together(photos, ask, grpc, server):
    def counts():
        (stats,) = grpc.get_inference_statistics("tiramisu_onnx", headers=server.admin_headers, as_json=True)[
            "model_stats"
        ]
        return int(stats.get("inference_count", 0)), int(stats.get("execution_count", 0))

    images, runs = counts()
    ask.many("matte", "alpha", [photos["chelsea"]] * 24)
    deadline = time.monotonic() + 10  # Triton counts a photo a moment after it answers it
    while (after := counts())[0] - images < 24 and time.monotonic() < deadline:
        time.sleep(0.05)
    images_after, runs_after = after
    assert images_after - images >= 24, "the server's own test photos count too"
    assert runs_after - runs < images_after - images, "every photo had a run of its own"


def test_the_server_still_answers_the_canary_after_all_that(server):
    server.check(timeout_s=60.0)
