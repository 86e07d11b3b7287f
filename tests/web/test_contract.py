"""remove.bg's documented requests, good and bad, against our endpoint."""

from __future__ import annotations

import base64
import io
import json
import threading
import zipfile

import cv2
import numpy as np
import pytest
import simplejpeg
from PIL import ImageFile

from bgimage.finish import VISIBLE

from .support import client_of, opened, picture

PHOTO = picture()  # 320 x 240; the made-up network sees somebody in its middle
BIG = picture(1600, 1200)
HALF = picture(800, 600)  # more than the smallest size holds
B64 = base64.b64encode(PHOTO).decode()
SEA = picture(50, 50, "png", (0, 0, 255))

GOOD = [
    # fields, expected format, expected size (None: the photo's)
    ({}, "PNG", None),
    ({"size": "preview"}, "PNG", None),
    ({"size": "small"}, "PNG", None),
    ({"size": "regular"}, "PNG", None),
    ({"size": "medium"}, "PNG", None),
    ({"size": "hd"}, "PNG", None),
    ({"size": "full"}, "PNG", None),
    ({"size": "4k"}, "PNG", None),
    ({"size": "auto"}, "PNG", None),
    ({"size": ""}, "PNG", None),
    ({"type": "auto"}, "PNG", None),
    ({"type": "person"}, "PNG", None),
    ({"type_level": "none"}, "PNG", None),
    ({"type_level": "latest"}, "PNG", None),
    ({"format": "auto"}, "PNG", None),
    ({"format": "auto", "bg_color": "fff"}, "JPEG", None),
    ({"format": "png"}, "PNG", None),
    ({"format": "png", "bg_color": "81d4fa"}, "PNG", None),
    ({"format": "jpg"}, "JPEG", None),
    ({"format": "webp"}, "WEBP", None),
    ({"roi": "0% 0% 100% 100%"}, "PNG", None),
    ({"roi": "0px 0px 320px 240px"}, "PNG", None),
    ({"roi": "320 240 0 0"}, "PNG", None),
    ({"roi": "25% 10px 75% 230px"}, "PNG", None),
    ({"crop": "false"}, "PNG", None),
    ({"crop": "false", "crop_margin": "10px"}, "PNG", None),
    ({"scale": "original"}, "PNG", None),
    ({"scale": "50%"}, "PNG", None),
    ({"scale": "100%"}, "PNG", None),
    ({"scale": "10%", "position": "original"}, "PNG", None),
    ({"position": "original"}, "PNG", None),
    ({"position": "center"}, "PNG", None),
    ({"position": "50%"}, "PNG", None),
    ({"position": "20% 80%", "scale": "40%"}, "PNG", None),
    ({"channels": "rgba"}, "PNG", None),
    ({"channels": "alpha"}, "PNG", None),
    ({"channels": "alpha", "format": "jpg"}, "JPEG", None),
    ({"add_shadow": "true"}, "PNG", None),
    ({"people": "main"}, "PNG", None),
    ({"add_shadow": "true", "shadow_opacity": "30"}, "PNG", None),
    ({"keep": "[[160, 120]]", "remove": '[{"points": [[1, 1], [300, 5]], "radius": 4}]'}, "PNG", None),
    ({"semitransparency": "false"}, "PNG", None),
    ({"bg_color": "#81d4fa", "format": "png"}, "PNG", None),
    ({"bg_color": "81d4fa77", "format": "png"}, "PNG", None),
    ({"bg_color": "fffa", "format": "png"}, "PNG", None),
    ({"bg_color": "green", "format": "png"}, "PNG", None),
    ({"bg_color": "0000"}, "PNG", None),
    ({"bg_color": ""}, "PNG", None),
    ({"unknown_field": "is ignored"}, "PNG", None),
]


@pytest.mark.parametrize(
    ("fields", "format", "size"), GOOD, ids=lambda v: json.dumps(v) if isinstance(v, dict) else ""
)
@pytest.mark.parametrize("kind", ["multipart", "json"])
async def test_a_good_request_gets_a_picture(http, fields, format, size, kind):
    if kind == "multipart":
        answer = await http.post(
            "/v1.0/removebg", data=fields, files={"image_file": ("me.jpg", PHOTO, "image/jpeg")}
        )
    else:
        answer = await http.post("/v1.0/removebg", json={**fields, "image_file_b64": B64})
    assert answer.status_code == 200, answer.text
    image = opened(answer.content)
    assert image.format == format
    assert answer.headers["content-type"] == f"image/{format.lower()}"
    assert image.size == (size or (320, 240))
    assert (answer.headers["x-width"], answer.headers["x-height"]) == tuple(map(str, image.size))
    assert answer.headers["x-credits-charged"] == "0"
    assert 0 < float(answer.headers["x-expected-iou"]) <= 1
    assert ("x-type" in answer.headers) == (fields.get("type_level") != "none")


@pytest.fixture
def decoders(monkeypatch, fake_server):
    """Names of the decoders that ran anywhere but in the server."""
    inside, ran = threading.local(), []

    def watched(module, name):
        real = getattr(module, name)

        def run(*args, **kwargs):
            if not getattr(inside, "server", False):
                ran.append(name)
            return real(*args, **kwargs)

        monkeypatch.setattr(module, name, run)

    for module, name in [(ImageFile.ImageFile, "load"), (simplejpeg, "decode_jpeg"), (cv2, "imdecode")]:
        watched(module, name)
    answer = fake_server._answer

    def served(request):
        inside.server = True
        try:
            return answer(request)
        finally:
            inside.server = False

    monkeypatch.setattr(fake_server, "_answer", served)
    return ran


@pytest.mark.parametrize("format", ["jpeg", "png", "webp", "bmp", "gif", "tiff", "avif"])
async def test_the_whole_photo_goes_to_the_server_and_no_decoder_runs_in_the_front(
    http, fake_server, decoders, format
):
    photo = picture(format=format)
    for fields in ({}, {"roi": "0% 0% 50% 100%", "crop": "true"}, {"channels": "alpha"}, {"format": "jpg"}):
        behind = {"bg_image_file": ("sea.png", SEA, "image/png")} if not fields else {}
        await ask(http, photo, files=behind, **fields)
        _, request = fake_server.requests[-1]
        assert request.model == "cutout"
        assert request.inputs[0].items() == [photo]
    assert decoders == []


async def test_of_a_zip_only_what_the_server_made_is_decoded_in_the_front(http, decoders):
    await ask(http, format="zip")
    assert set(decoders) == {"load"}, "the server's PNG"
    decoders.clear()
    await ask(http, format="zip", channels="alpha")
    assert decoders == []


def members(data):
    """Names and contents of a zip's files."""
    archive = zipfile.ZipFile(io.BytesIO(data))
    return {name: archive.read(name) for name in archive.namelist()}


@pytest.mark.parametrize(
    "fields",
    [
        *(fields for fields, *_ in GOOD),
        {"format": "zip"},
        {"format": "zip", "channels": "alpha"},
        {"crop": "true", "crop_margin": "5% 10px", "scale": "60%", "position": "10% 90%", "format": "zip"},
        {"crop": "true", "add_shadow": "true", "bg_color": "fff8", "format": "webp"},
        {"format": "jpg", "bg_color": "81d4fa77"},
        {"roi": "0% 0% 1% 1%"},
        {"format": "jpg", "position": "0%", "size": "full", "scale": "100%"},
    ],
    ids=json.dumps,
)
async def test_a_front_that_finishes_photos_itself_answers_the_same(app_with, fields):
    answers = []
    for where in ("server", "client"):
        async with client_of(app_with(where=where)) as http:
            answer = await http.post("/v1.0/removebg", data=fields, files={"image_file": HALF})
            facts = {name: text for name, text in answer.headers.items() if name != "x-request-id"}
            answers.append((answer.status_code, facts, answer.content))
    if fields.get("format") == "zip":  # which carries the time
        answers = [(*said, members(content)) for *said, content in answers]
    assert answers[0] == answers[1]


@pytest.mark.parametrize("where", ["server", "client"])
async def test_a_picture_that_its_format_cannot_hold_is_refused(app_with, where):
    async with client_of(app_with(where=where)) as http:
        photo = picture(17_000, 20, "png")
        answer = await http.post(
            "/v1.0/removebg", data={"size": "full", "format": "webp"}, files={"image_file": photo}
        )
    refused(answer, 400, "invalid_parameter")


async def test_a_front_far_from_its_server_sends_little(app_with, fake_server):
    async with client_of(app_with(where="client")) as http:
        await ask(http, BIG, size="full")
        _, request = fake_server.requests[-1]
        (image,) = request.inputs  # what the network sees, and nothing of the file
        assert request.model == "fake_network"
        assert len(image.data) <= 3 * 320 * 320
        assert (await http.get("/healthz")).status_code == 200
        assert fake_server.requests[-1][1].model == "fake_network"


BAD = [
    # fields beside a good image_file, status, code
    ({"size": "huge"}, 400, "invalid_size"),
    ({"type": "car"}, 400, "invalid_type"),
    ({"type_level": "3"}, 400, "invalid_type_level"),
    ({"format": "bmp"}, 400, "invalid_format"),
    ({"format": "zip", "bg_color": "fff"}, 400, "invalid_format"),
    ({"roi": "0 0 10"}, 400, "invalid_roi"),
    ({"roi": "a b c d"}, 400, "invalid_roi"),
    ({"roi": "-1 0 10 10"}, 400, "invalid_roi"),
    ({"roi": "0 0 321 240"}, 400, "roi_exceeds_bounds"),
    ({"roi": "0% 0% 101% 100%"}, 400, "roi_exceeds_bounds"),
    ({"roi": "10 10 10 100"}, 400, "roi_region_empty"),
    ({"roi": "0% 50% 100% 50%"}, 400, "roi_region_empty"),
    ({"crop": "maybe"}, 400, "invalid_crop"),
    ({"crop_margin": "51%"}, 400, "invalid_crop_margin"),
    ({"crop_margin": "501px"}, 400, "invalid_crop_margin"),
    ({"crop_margin": "1px 2px 3px"}, 400, "invalid_crop_margin"),
    ({"crop_margin": "wide"}, 400, "invalid_crop_margin"),
    ({"crop_margin": "-5px"}, 400, "invalid_crop_margin"),
    ({"scale": "5%"}, 400, "invalid_scale"),
    ({"scale": "101%"}, 400, "invalid_scale"),
    ({"scale": "0.5"}, 400, "invalid_scale"),
    ({"position": "left"}, 400, "invalid_position"),
    ({"position": "10% 20% 30%"}, 400, "invalid_position"),
    ({"position": "120%"}, 400, "invalid_position"),
    ({"channels": "rgb"}, 400, "invalid_channels"),
    ({"add_shadow": "2"}, 400, "invalid_add_shadow"),
    ({"people": "nobody"}, 400, "invalid_people"),
    ({"keep": "here"}, 400, "invalid_keep"),
    ({"remove": "[[1, 2, 3]]"}, 400, "invalid_remove"),
    ({"keep": "[" * 30_000}, 400, "invalid_keep"),
    ({"shadow_opacity": "101"}, 400, "invalid_shadow_opacity"),
    ({"semitransparency": "x"}, 400, "invalid_semitransparency"),
    ({"bg_color": "12345"}, 400, "invalid_bg_color"),
    ({"bg_color": "no such colour"}, 400, "invalid_bg_color"),
    ({"bg_image_url": "ftp://example.com/a.jpg"}, 400, "invalid_bg_image_url"),
    ({"bg_image_url": "https://example.com/a.jpg"}, 400, "failed_bg_download"),
    ({"bg_color": "fff", "bg_image_url": "https://example.com/a.jpg"}, 400, "multiple_bg_sources"),
    ({"image_url": "https://example.com/a.jpg"}, 400, "multiple_sources"),
    ({"image_file_b64": B64}, 400, "multiple_sources"),
    ({"bg_color": "x" * 70_000}, 400, "invalid_bg_color"),
]


def refused(answer, status, code):
    """The body has remove.bg's form, with this code."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/json"
    (error,) = answer.json()["errors"]
    assert error["code"] == code, error
    assert error["title"]
    assert set(error) <= {"title", "code", "detail"}


@pytest.mark.parametrize(
    ("fields", "status", "code"), BAD, ids=lambda v: json.dumps(v)[:60] if isinstance(v, dict) else ""
)
async def test_a_bad_request_gets_an_error_that_names_it(http, fields, status, code):
    answer = await http.post(
        "/v1.0/removebg", data=fields, files={"image_file": ("me.jpg", PHOTO, "image/jpeg")}
    )
    refused(answer, status, code)


ONLY_JSON = [
    ({}, 400, "missing_source"),
    ({"image_file_b64": ""}, 400, "missing_source"),
    ({"image_file_b64": None}, 400, "missing_source"),
    ({"image_file_b64": "***"}, 400, "invalid_image_file_b64"),
    ({"image_file_b64": "aGVsbG8="}, 415, "invalid_file_type"),
    ({"image_file_b64": base64.b64encode(PHOTO[:200]).decode()}, 400, "damaged_file"),
    ({"image_file_b64": base64.b64encode(b"<svg/>").decode()}, 415, "invalid_file_type"),
    ({"image_url": "/etc/passwd"}, 400, "invalid_image_url"),
    ({"image_url": "file:///etc/passwd"}, 400, "invalid_image_url"),
    ({"image_url": "https://example.com/a.jpg"}, 400, "failed_image_download"),
    ({"image_url": ["https://example.com/a.jpg"]}, 400, "invalid_image_url"),
    ({"image_file": "text"}, 400, "invalid_image_file"),
    ({"image_file_b64": B64, "size": {"a": 1}}, 400, "invalid_size"),
    ([], 400, "invalid_request"),
    ("text", 400, "invalid_request"),
]


@pytest.mark.parametrize(("body", "status", "code"), ONLY_JSON, ids=lambda v: json.dumps(v)[:60])
async def test_a_bad_json_body_gets_an_error_that_names_it(http, body, status, code):
    refused(await http.post("/v1.0/removebg", json=body), status, code)


UNFINISHED = b'--x\r\nContent-Disposition: form-data; name="image_file"\r\n\r\nab'


async def test_bodies_that_are_not_what_they_say_are_refused(http):
    for content_type, body, status, code in [
        ("application/json", b"{", 400, "invalid_request"),
        ("application/json", b"[" * 100_000, 400, "invalid_request"),
        ("application/json", b"\xff\xfe", 400, "invalid_request"),
        ("multipart/form-data", b"--x", 400, "invalid_request"),
        ("multipart/form-data; boundary=x", b"nothing of the kind", 400, "invalid_request"),
        ("multipart/form-data; boundary=x", UNFINISHED, 400, "invalid_request"),
        ("application/x-www-form-urlencoded", b"type=\xff", 400, "invalid_request"),
        ("application/x-www-form-urlencoded", b"&".join([b"a=b"] * 100), 400, "invalid_request"),
        ("application/x-www-form-urlencoded", b"size=full&size=hd&image_url=https://e.com", 400, "invalid_size"),
        ("text/plain", b"photo", 415, "invalid_content_type"),
        ("image/jpeg", PHOTO, 415, "invalid_content_type"),
        ("", b"", 415, "invalid_content_type"),
    ]:  # fmt: skip
        headers = {"content-type": content_type} if content_type else {}
        refused(await http.post("/v1.0/removebg", content=body, headers=headers), status, code)


@pytest.mark.parametrize(
    "text", [B64, "data:image/jpeg;base64," + B64, "\n".join(B64[i : i + 76] for i in range(0, len(B64), 76))]
)
async def test_base64_may_be_plain_wrapped_or_a_data_url(http, text):
    for sent in ({"json": {"image_file_b64": text}}, {"data": {"image_file_b64": text}}):
        answer = await http.post("/v1.0/removebg", **sent)
        assert answer.status_code == 200, answer.text


async def test_base64_whose_plus_signs_were_not_encoded_is_understood(http):
    assert "+" in B64
    body = f"image_file_b64={B64}".encode()
    headers = {"content-type": "application/x-www-form-urlencoded"}
    assert (await http.post("/v1.0/removebg", content=body, headers=headers)).status_code == 200


async def test_json_values_may_be_booleans_and_numbers(http):
    body = {
        "image_file_b64": B64,
        "crop": True,
        "add_shadow": False,
        "shadow_opacity": 40,
        "type_level": 1,
        "roi": None,
    }
    assert (await http.post("/v1.0/removebg", json=body)).status_code == 200


async def ask(http, photo=PHOTO, *, headers=None, files=None, **fields):
    """The answer to a good request."""
    upload = {"image_file": ("me.jpg", photo, "image/jpeg"), **(files or {})}
    answer = await http.post("/v1.0/removebg", data=fields, files=upload, headers=headers)
    assert answer.status_code == 200, answer.text
    return answer


@pytest.mark.parametrize(
    ("size", "most"),
    [("preview", 250_000), ("medium", 1_500_000), ("hd", 4_000_000), ("full", None), ("auto", None)],
)
async def test_the_size_bounds_the_pixels_and_keeps_the_aspect(http, size, most):
    image = opened((await ask(http, BIG, size=size)).content)
    assert image.width * image.height <= (most or 1600 * 1200)
    assert image.width * image.height >= 0.97 * min(most or 1e9, 1600 * 1200)
    assert image.width / image.height == pytest.approx(4 / 3, rel=0.01)


async def test_the_cutout_is_transparent_where_nobody_is_and_opaque_where_somebody_is(http):
    alpha = np.asarray(opened((await ask(http)).content))[..., 3]
    assert alpha[120, 160] == 255
    assert alpha[5, 5] == 0


async def test_the_foreground_headers_frame_the_people(http):
    answer = await ask(http)
    top, left, width, height = (
        int(answer.headers[f"x-foreground-{side}"]) for side in ("top", "left", "width", "height")
    )
    solid = np.asarray(opened(answer.content))[..., 3] >= VISIBLE
    rows, columns = np.flatnonzero(solid.any(1)), np.flatnonzero(solid.any(0))
    assert (top, left) == (rows[0], columns[0])
    assert (top + height, left + width) == (rows[-1] + 1, columns[-1] + 1)


async def test_a_crop_is_as_large_as_the_people_and_their_margin(http):
    plain = await ask(http, BIG, size="full", crop="true")
    wide = await ask(http, BIG, size="full", crop="true", crop_margin="20px 10px")
    bare, roomy = opened(plain.content), opened(wide.content)
    assert bare.width < 1600
    # where the photo ends, there is no more room
    assert bare.width <= roomy.width <= bare.width + 20
    assert bare.height <= roomy.height <= bare.height + 40
    assert int(plain.headers["x-foreground-width"]) == pytest.approx(bare.width, abs=2)


async def test_the_scale_is_the_subjects_share_of_the_frame(http):
    answer = await ask(http, BIG, size="full", scale="50%")
    width, height = int(answer.headers["x-foreground-width"]), int(answer.headers["x-foreground-height"])
    assert max(width / 1600, height / 1200) == pytest.approx(0.5, abs=0.02)
    left = int(answer.headers["x-foreground-left"])
    assert left + width / 2 == pytest.approx(800, abs=4), "a scale centres the subject"


async def test_the_position_puts_the_subject_where_it_says(http):
    left = await ask(http, BIG, size="full", scale="40%", position="0% 50%")
    right = await ask(http, BIG, size="full", scale="40%", position="100% 50%")
    assert int(left.headers["x-foreground-left"]) <= 2
    right_edge = int(right.headers["x-foreground-left"]) + int(right.headers["x-foreground-width"])
    assert right_edge >= 1598


async def test_people_outside_the_region_of_interest_are_background(http):
    alpha = np.asarray(opened((await ask(http, roi="0% 0% 50% 100%")).content))[..., 3]
    assert alpha[120, 120] == 255
    assert alpha[120, 200] == 0


async def test_the_alpha_channel_alone_is_a_grey_picture(http):
    image = opened((await ask(http, channels="alpha")).content)
    assert image.mode == "L"
    assert np.array_equal(np.asarray(image), np.asarray(opened((await ask(http)).content))[..., 3])


async def test_a_background_colour_fills_what_was_transparent(http):
    image = opened((await ask(http, bg_color="00ff00", format="png")).content)
    assert image.convert("RGBA").getpixel((5, 5)) == (0, 255, 0, 255)


async def test_a_half_transparent_colour_stays_half_transparent(http):
    image = opened((await ask(http, bg_color="00ff0080")).content)
    assert image.format == "PNG"
    assert image.getpixel((5, 5)) == (0, 255, 0, 128)


async def test_a_jpeg_without_background_is_on_white(http):
    image = opened((await ask(http, format="jpg")).content)
    assert min(image.getpixel((5, 5))) > 250


async def test_white_shows_through_a_half_transparent_colour_in_a_jpeg(http):
    image = opened((await ask(http, format="jpg", bg_color="00ff0080")).content)
    assert image.getpixel((5, 5)) == pytest.approx((127, 255, 127), abs=4)


async def test_a_background_image_fills_the_frame(http):
    behind = {"bg_image_file": ("sea.png", picture(50, 50, "png", (0, 0, 255)), "image/png")}
    image = opened((await ask(http, files=behind, format="png")).content).convert("RGB")
    assert image.size == (320, 240)
    assert image.getpixel((5, 5)) == (0, 0, 255)


async def test_a_bad_background_image_is_named_as_such(http):
    behind = {
        "image_file": ("me.jpg", PHOTO, "image/jpeg"),
        "bg_image_file": ("sea.txt", b"sea", "text/plain"),
    }
    answer = await http.post("/v1.0/removebg", files=behind)
    refused(answer, 415, "invalid_file_type")
    assert answer.json()["errors"][0]["detail"].startswith("background image")


async def test_two_backgrounds_are_refused(http):
    behind = {
        "image_file": ("me.jpg", PHOTO, "image/jpeg"),
        "bg_image_file": ("sea.jpg", PHOTO, "image/jpeg"),
    }
    refused(
        await http.post("/v1.0/removebg", files=behind, data={"bg_color": "fff"}), 400, "multiple_bg_sources"
    )


async def test_a_shadow_darkens_the_ground(http):
    plain = np.asarray(
        opened((await ask(http, bg_color="ffffff", format="png")).content).convert("L"), np.int16
    )
    shaded = np.asarray(
        opened((await ask(http, bg_color="ffffff", format="png", add_shadow="true")).content).convert("L"),
        np.int16,
    )
    assert (plain - shaded).max() > 10


async def test_the_zip_holds_colour_and_alpha_that_make_the_same_cutout(http):
    answer = await ask(http, format="zip")
    assert answer.headers["content-type"] == "application/zip"
    archive = zipfile.ZipFile(io.BytesIO(answer.content))
    assert sorted(archive.namelist()) == ["alpha.png", "color.jpg"]
    colour, alpha = opened(archive.read("color.jpg")), opened(archive.read("alpha.png"))
    cutout = np.asarray(opened((await ask(http)).content))
    assert (colour.mode, alpha.mode) == ("RGB", "L")
    assert np.array_equal(np.asarray(alpha), cutout[..., 3])
    solid = cutout[..., 3] == 255
    difference = np.abs(np.asarray(colour, np.int16) - cutout[..., :3])[solid]
    assert np.percentile(difference, 99) <= 24, "JPEG's error only"


@pytest.mark.parametrize(
    ("accept", "json"),
    [
        ("application/json", True),
        ("application/json, text/plain, */*", True),
        ("image/*", False),
        ("*/*", False),
        ("", False),
        ("image/png, application/json", False),
        ("image/*;q=0.5, application/json", True),
        ("application/json;q=nonsense, image/*", False),
        ("text/html", False),
    ],
)
async def test_the_accept_header_chooses_between_picture_and_json(http, accept, json):
    answer = await ask(http, headers={"accept": accept})
    assert (answer.headers["content-type"] == "application/json") == json
    if json:
        data = answer.json()["data"]
        assert opened(base64.b64decode(data["result_b64"])).size == (320, 240)
        assert data["foreground_width"] == int(answer.headers["x-foreground-width"])
        assert data["foreground_left"] == int(answer.headers["x-foreground-left"])


async def test_a_photo_of_nobody_has_an_unknown_foreground(app_with, fake_server):
    fake_server.network = lambda image: np.zeros(image.shape[1:], np.float32)
    async with client_of(app_with()) as http:
        answer = await http.post("/v1.0/removebg", files={"image_file": PHOTO})
    refused(answer, 400, "unknown_foreground")


@pytest.mark.parametrize("format", ["png", "webp", "bmp", "gif", "tiff", "avif"])
async def test_every_kind_of_picture_is_read(http, format):
    answer = await ask(http, picture(format=format))
    assert opened(answer.content).size == (320, 240)


async def test_a_file_with_too_many_bytes_is_refused_and_the_limit_named(app_with):
    async with client_of(app_with(max_upload_bytes=10_000)) as http:
        for sent in (
            {"files": {"image_file": ("me.jpg", b"\xff\xd8\xff" + b"x" * 10_000, "image/jpeg")}},
            {"json": {"image_file_b64": "A" * 16_000}},
            {"data": {"image_file_b64": "A" * 16_000}},
        ):
            answer = await http.post("/v1.0/removebg", **sent)
            refused(answer, 413, "file_too_large")
            assert "10000 bytes" in answer.json()["errors"][0]["detail"]


async def test_a_photo_with_too_many_pixels_is_refused_before_it_is_decoded(app_with):
    async with client_of(app_with(max_pixels=50_000)) as http:
        refused(await http.post("/v1.0/removebg", files={"image_file": PHOTO}), 413, "resolution_too_high")
