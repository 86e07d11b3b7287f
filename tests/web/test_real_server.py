"""The page and the REST interface in front of the real tritonserver."""

from __future__ import annotations

import base64
import io
import logging
import time
import zipfile

import numpy as np
import pytest
import requests

from bgclient.client import Client
from bgclient.web import Settings, create_app
from bgserver import logs

from .browser import Visit
from .support import listening_on_loopback, opened, picture

pytestmark = [pytest.mark.server, pytest.mark.slow]

TIMEOUT_S = 120.0
"""Long: a test machine may be busy."""

STEP = 1
"""Of 255 by which two answers may differ: the network's last bits depend on the batch that a photo was in."""


@pytest.fixture(scope="module")
def front(server):
    """Address of the web app, by gRPC to the real server."""
    app = create_app(Settings(url=server.grpc_url, requests_per_minute=0, cut_s=TIMEOUT_S, wait_s=TIMEOUT_S))
    with listening_on_loopback(app) as address:
        yield address


@pytest.fixture(scope="module")
def thin_front(server):
    """One that finishes photos itself, by HTTP to the real server."""
    app = create_app(
        Settings(
            url=server.http_url, where="client", requests_per_minute=0, cut_s=TIMEOUT_S, wait_s=TIMEOUT_S
        )
    )
    with listening_on_loopback(app) as address:
        yield address


def post(front, photo, *, headers=None, **data):
    return requests.post(
        f"{front}/v1.0/removebg",
        files={"image_file": photo},
        data={"size": "full", "format": "png", **data},
        headers=headers,
        timeout=TIMEOUT_S,
    )


def pixels(data):
    return np.asarray(opened(data)).astype(int)


@pytest.mark.parametrize("name", ["astronaut", "grace_hopper"])
def test_a_rest_answer_is_the_png_that_cut_gives(front, server, examples, name):
    photo = examples[name].read_bytes()
    answer = post(front, photo)
    assert (answer.status_code, answer.headers["content-type"]) == (200, "image/png")
    with Client(server.grpc_url, timeout_s=TIMEOUT_S) as client:
        cutout = client.cut(photo)
    assert np.abs(pixels(answer.content) - pixels(cutout.png())).max() <= STEP
    left, top, right, bottom = cutout.box
    box = {"Left": left, "Top": top, "Width": right - left, "Height": bottom - top}
    assert {side: int(answer.headers[f"x-foreground-{side}"]) for side in box} == pytest.approx(box, abs=1)


def test_options_of_the_rest_interface_reach_the_picture(front, server, examples):
    photo = examples["astronaut"].read_bytes()
    answer = post(front, photo, bg_color="3366cc", crop="true", crop_margin="5%", format="jpg")
    with Client(server.grpc_url, timeout_s=TIMEOUT_S) as client:
        wanted = client.cut(photo, background="#3366cc", crop=True, margin="5%")
    assert answer.headers["content-type"] == "image/jpeg"
    assert opened(answer.content).size == wanted.image.size
    assert opened(answer.content).getpixel((2, 2)) == pytest.approx((0x33, 0x66, 0xCC), abs=4)


def test_a_bad_photo_is_refused_and_the_next_one_is_cut(front, examples):
    photo = examples["grace_hopper"].read_bytes()
    for bad, status, code, asked in [
        (photo[: len(photo) // 2], 400, "damaged_file", {}),
        (b"a text", 415, "invalid_file_type", {}),
        (picture(800, 600), 400, "unknown_foreground", {"roi": "0% 0% 1% 1%"}),
        (picture(7_200, 7_200), 413, "resolution_too_high", {}),
    ]:
        answer = post(front, bad, **asked)
        assert (answer.status_code, answer.json()["errors"][0]["code"]) == (status, code)
    assert post(front, photo).status_code == 200


@pytest.mark.parametrize(
    "fields",
    [
        {"format": "auto", "bg_color": "fff"},
        {"format": "webp", "channels": "alpha"},
        {"format": "jpg", "bg_color": "81d4fa77", "size": "medium"},
        {"format": "zip", "crop": "true", "crop_margin": "5% 10px"},
        {"scale": "60%", "position": "10% 90%", "add_shadow": "true", "shadow_opacity": "30"},
        {"roi": "10% 0% 90% 100%", "type_level": "none"},
    ],
    ids=str,
)
def test_every_option_reaches_the_picture_by_both_ways(front, thin_front, examples, fields):
    photo = examples["astronaut"].read_bytes()
    whole, thin = (post(address, photo, **fields) for address in (front, thin_front))
    assert whole.status_code == thin.status_code == 200, whole.text
    names = {name for name in whole.headers if name.startswith("x-")} - {"x-request-id"}
    assert names == {name for name in thin.headers if name.startswith("x-")} - {"x-request-id"}
    for name in names:
        if name.startswith("x-foreground"):
            assert int(whole.headers[name]) == pytest.approx(int(thin.headers[name]), abs=1)
        else:
            assert whole.headers[name] == thin.headers[name]
    assert whole.headers["content-type"] == thin.headers["content-type"]
    if fields.get("format") != "zip":
        assert opened(whole.content).size == opened(thin.content).size
        difference = np.abs(pixels(whole.content) - pixels(thin.content))
        assert np.percentile(difference, 99.9) <= 8, "the network's last bits, and JPEG's"
        return
    archives = [zipfile.ZipFile(io.BytesIO(answer.content)) for answer in (whole, thin)]
    assert sorted(archives[0].namelist()) == sorted(archives[1].namelist()) == ["alpha.png", "color.jpg"]
    assert len({opened(archive.read("color.jpg")).size for archive in archives}) == 1


def test_a_background_picture_is_laid_by_the_server(front, examples):
    photo, sea = examples["astronaut"].read_bytes(), picture(40, 30, "png", (0, 0, 255))
    answer = requests.post(
        f"{front}/v1.0/removebg",
        files={"image_file": photo, "bg_image_file": sea},
        data={"size": "full"},
        timeout=TIMEOUT_S,
    )
    assert (answer.status_code, answer.headers["content-type"]) == (200, "image/jpeg")
    assert opened(answer.content).getpixel((4, 4)) == pytest.approx((0, 0, 255), abs=6)


def test_health_is_a_photo_that_came_back_through_the_real_server(front):
    assert requests.get(f"{front}/healthz", timeout=TIMEOUT_S).json()["status"] == "ok"
    assert "bgclient_web_canary_up 1.0" in requests.get(f"{front}/metrics", timeout=TIMEOUT_S).text


def test_one_id_joins_the_caller_the_front_and_the_models(front, server, server_log, examples, caplog):
    photo = examples["astronaut"].read_bytes()
    with caplog.at_level(logging.INFO, "bgclient.web"):
        answer = post(front, photo, headers={"X-Request-Id": "order-17"})
        assert answer.headers["x-request-id"] == "order-17"

        def of_front():
            fields = [record.fields for record in caplog.records if hasattr(record, "fields")]
            return [line["status"] for line in fields if line["request_id"] == "order-17"]

        deadline = time.monotonic() + 30  # the line is written after the answer
        while not of_front() and time.monotonic() < deadline:
            time.sleep(0.1)
    assert of_front() == [200]
    with Client(server.grpc_url, timeout_s=TIMEOUT_S) as client:
        cutout = client.cut(photo, where="server")

    def of_models(request_id):
        lines = map(logs.of_line, server_log.read_text().splitlines())
        found = [line for line in lines if line.get("request_id") == request_id]
        return [(line["model"], line["outcome"]) for line in found]

    deadline = time.monotonic() + 30  # the log is written after the answer
    while any(len(of_models(one)) < 2 for one in ("order-17", cutout.timings.request_id)):
        assert time.monotonic() < deadline, server_log.read_text()[-2000:]
        time.sleep(0.1)
    for request_id in ("order-17", cutout.timings.request_id):
        assert of_models(request_id) == [("bgclient_preprocess", "ok"), ("bgclient_postprocess", "ok")]


@pytest.mark.browser
def test_a_photo_dropped_on_the_page_comes_back_as_the_apis_png(front, chromium, examples):
    photo = examples["astronaut"].read_bytes()
    here = Visit(chromium, front)
    here.drop("astronaut.png", photo)
    here.until_done()
    assert here.one("#facts").text == "512 × 512 pixels"
    slider = here.one("#split")
    here.script("arguments[0].value = 20; arguments[0].dispatchEvent(new Event('input'))", slider)
    got = here.downloaded("#download", "astronaut-cutout.png")
    assert opened(got).format == "PNG"
    assert np.abs(pixels(got) - pixels(post(front, photo).content)).max() <= STEP
    assert here.pixel("#after", 0.4, 0.3)[3] == 255, "her face is there"
    assert here.pixel("#after", 0.97, 0.1)[3] < 128, "the background is not"
    assert here.complaints() == []


def test_the_removebg_package_cuts_a_photo_through_the_real_server(
    front, server, monkeypatch, tmp_path, examples
):
    module = pytest.importorskip("removebg.removebg", reason="the development extra is not installed")
    monkeypatch.setattr(module, "API_ENDPOINT", f"{front}/v1.0/removebg")
    out = tmp_path / "out.png"
    photo = base64.b64encode(examples["grace_hopper"].read_bytes()).decode()
    module.RemoveBg("any key", str(tmp_path / "error.log")).remove_background_from_base64_img(
        photo, size="full", new_file_name=str(out)
    )
    with Client(server.grpc_url, timeout_s=TIMEOUT_S) as client:
        wanted = client.cut(examples["grace_hopper"])
    assert np.abs(pixels(out.read_bytes()) - wanted.pixels).max() <= STEP
