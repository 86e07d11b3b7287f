"""The page in a real browser, by keyboard and mouse, against the app on a loopback port."""

from __future__ import annotations

import io
import re
import shutil
import subprocess
import tarfile
import zipfile
from pathlib import Path

import cv2
import numpy as np
import pytest
import requests
from PIL import Image, ImageDraw

from bgclient import AsyncClient, Client
from bgclient.errors import InternalError
from bgclient.web import Settings, create_app, page
from bgimage import people, strokes
from bgimage.codec import photo_from
from bgimage.options import Options

from .browser import Visit
from .support import listening_on_loopback, opened, picture, same

pytestmark = [pytest.mark.browser, pytest.mark.slow]

pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
from selenium.webdriver.common.by import By  # noqa: E402
from selenium.webdriver.common.keys import Keys  # noqa: E402

AXE = "axe-core@4.14.1"
ROOT = Path(__file__).parents[2]

needs_runtime = pytest.mark.skipif(
    not (page.STATIC / "vendor" / "ort-wasm-simd-threaded.wasm.gz").is_file(),
    reason="ONNX Runtime for the browser is not there; make web-assets fetches it from npm",
)


@pytest.fixture
def visit(chromium, listening):
    """Opens the page of an app with the given settings."""
    return lambda **settings: Visit(chromium, listening(**settings))


@pytest.fixture
def photo(tmp_path):
    path = tmp_path / "me.jpg"
    path.write_bytes(picture(800, 600))
    return path


def test_a_dropped_photo_is_cut_and_the_download_is_the_apis_own_png(visit):
    here = visit()
    data = picture(800, 600)
    here.drop("me.jpg", data)
    here.until_done()
    got = here.downloaded("#download", "me-cutout.png")
    answer = requests.post(
        f"{here.address}/v1.0/removebg",
        files={"image_file": data},
        data={"size": "full", "format": "png"},
        timeout=60,
    )
    assert got == answer.content
    assert here.one("#facts").text == "800 × 600 pixels"
    assert here.pixel("#after", 0.5, 0.5)[3] == 255
    assert here.pixel("#after", 0.02, 0.02)[3] == 0
    assert here.complaints() == []


def test_a_pasted_photo_is_cut(visit):
    here = visit()
    here.paste("shot.jpg", picture(640, 480))
    here.until_done()
    assert here.one("#facts").text == "640 × 480 pixels"
    assert here.complaints() == []


def test_a_photo_is_taken_with_the_camera_and_cut(visit):
    here = visit()
    here.click("[data-camera]")
    here.until(lambda: here.one("#shoot").is_enabled(), "the picture is live")
    width, height = here.script(
        "const v = document.querySelector('#video'); return [v.videoWidth, v.videoHeight]"
    )
    here.click("#shoot")
    here.until_done()
    assert here.one("#facts").text == f"{width} × {height} pixels"
    assert not here.one("#camera").is_displayed()
    assert not here.script("return document.querySelector('#video').srcObject"), "the camera is off again"
    assert here.complaints() == []


def test_a_phone_takes_the_photo_with_its_own_camera_app(visit):
    here = visit()
    here.driver.execute_cdp_cmd("Emulation.setTouchEmulationEnabled", {"enabled": True})
    try:
        here.until(lambda: here.script("return matchMedia('(pointer: coarse)').matches"), "it is a phone")
        here.script("HTMLInputElement.prototype.click = function () { window.opened = this.outerHTML; }")
        here.click("[data-camera]")
        asked = here.script("return window.opened")
        assert 'capture="user"' in asked
        assert 'accept="image/*"' in asked
    finally:
        here.driver.execute_cdp_cmd("Emulation.setTouchEmulationEnabled", {"enabled": False})


def test_the_slider_uncovers_the_result_by_keyboard(visit, photo):
    here = visit()
    here.put(photo)
    here.until_done()
    slider = here.one("#split")
    assert here.driver.switch_to.active_element == slider, "the result can be used at once"

    def shown():
        return here.script("return getComputedStyle(document.querySelector('#before')).clipPath")

    middle = shown()
    slider.send_keys(Keys.HOME)
    assert slider.get_attribute("value") == "0"
    assert shown() != middle
    slider.send_keys(Keys.END, Keys.ARROW_LEFT)
    assert slider.get_attribute("value") == "99.5"
    assert here.complaints() == []


def test_several_photos_are_cut_and_come_as_one_zip(visit, tmp_path):
    here = visit()
    for n in range(3):
        (tmp_path / f"p{n}.jpg").write_bytes(picture(200 + 40 * n, 200))
    (tmp_path / "again").mkdir()
    (tmp_path / "again" / "p0.jpg").write_bytes(picture(100, 200))
    here.put(*(tmp_path / f"p{n}.jpg" for n in range(3)), tmp_path / "again" / "p0.jpg")
    here.until(
        lambda: len(here.driver.find_elements(By.CSS_SELECTOR, ".thumb.done")) == 4, "all four are cut"
    )
    archive = zipfile.ZipFile(io.BytesIO(here.downloaded("#download-all", "cutouts.zip")))
    assert archive.testzip() is None
    widths = {name: opened(archive.read(name)).width for name in archive.namelist()}
    assert widths == {
        "p0-cutout.png": 200,
        "p1-cutout.png": 240,
        "p2-cutout.png": 280,
        "p0-cutout (2).png": 100,
    }
    assert here.one("#status").get_attribute("textContent") == "4 of 4 photos are cut out"
    assert here.complaints() == []


def test_background_and_crop_are_in_the_download_as_they_are_on_the_stage(visit, photo):
    here = visit()
    here.put(photo)
    here.until_done()
    here.click('[name="background"][value="#2d6a5f"]')
    here.until(lambda: here.pixel("#after", 0.02, 0.02) == [45, 106, 95, 255], "the colour is behind")
    here.click("#crop")
    here.until(lambda: here.one("#facts").text != "800 × 600 pixels", "it is cropped")
    image = opened(here.downloaded("#download", "me-cutout.png"))
    assert image.width < 600
    assert here.one("#facts").text == f"{image.width} × {image.height} pixels"
    assert image.convert("RGB").getpixel((1, 1)) == (45, 106, 95)
    here.click('[name="background"][value="blur"]')
    here.until(
        lambda: here.pixel("#after", 0.01, 0.01) not in ([45, 106, 95, 255], [0, 0, 0, 0]),
        "the photo is behind",
    )
    assert here.complaints() == []


def test_an_own_background_image_is_behind(visit, photo, tmp_path):
    here = visit()
    here.put(photo)
    here.until_done()
    (tmp_path / "sea.png").write_bytes(picture(60, 60, "png", (0, 0, 255)))
    here.one("#background-file").send_keys(str(tmp_path / "sea.png"))
    here.until(
        lambda: here.script("return document.querySelector('#image-name').textContent") == "sea.png",
        "the page has the image",
    )
    here.click('[name="background"][value="image"]')
    here.until(lambda: here.pixel("#after", 0.02, 0.02) == [0, 0, 255, 255], "the image is behind")
    assert here.complaints() == []


def test_a_photo_that_cannot_be_cut_says_why_and_is_tried_again_where_that_can_help(
    visit, tmp_path, fake_server
):
    here = visit()
    network, fake_server.network = fake_server.network, lambda image: np.zeros(image.shape[1:], np.float32)
    (tmp_path / "empty.jpg").write_bytes(picture())
    here.put(tmp_path / "empty.jpg")
    here.until(lambda: here.state() == "failed", "it is refused")
    assert here.one("#veil-text").text == "Nobody was found in this photo."
    assert not here.one("#retry").is_displayed()
    assert all("400" in complaint for complaint in here.complaints()), (
        "the browser's own line about the status"
    )
    fake_server.network = network
    fake_server.fail(InternalError("broke on this photo"))
    (tmp_path / "me.jpg").write_bytes(picture())
    here.put(tmp_path / "me.jpg")
    here.until(
        lambda: here.state() == "failed" and here.one("#retry").is_displayed(), "it can be tried again"
    )
    assert all("500" in complaint for complaint in here.complaints())
    here.click("#retry")
    here.until_done()


def test_a_photo_that_is_added_is_shown(visit, tmp_path):
    here = visit()
    for name, width in (("one", 300), ("two", 400)):
        (tmp_path / f"{name}.jpg").write_bytes(picture(width, 200))
        here.put(tmp_path / f"{name}.jpg")
        here.until(lambda: here.one("#facts").text == f"{width} × 200 pixels", f"{name} is shown")  # noqa: B023
    current = here.driver.find_elements(By.CSS_SELECTOR, '.thumb[aria-current="true"]')
    assert [thumb.get_attribute("aria-label") for thumb in current] == ["two.jpg."]


def test_the_download_may_be_a_jpeg_which_is_white_where_the_photo_is_gone(visit, photo):
    here = visit()
    here.put(photo)
    here.until_done()
    here.click("#jpeg")
    assert here.one("#download").text == "Download JPEG"
    data = here.downloaded("#download", "me-cutout.jpg")
    picture_of = opened(data)
    assert (picture_of.format, picture_of.size) == ("JPEG", (800, 600))
    assert min(picture_of.convert("RGB").getpixel((5, 5))) > 250


def test_the_main_person_alone_is_asked_of_the_server(visit, photo, fake_server):
    def two(image):
        alpha = np.zeros(image.shape[1:], np.float32)
        alpha[80:240, 60:180] = alpha[100:200, 250:300] = 1  # large enough to be a subject
        return alpha

    fake_server.network = two
    here = visit()
    here.put(photo)
    here.until_done()
    assert here.pixel("#after", 270 / 320, 0.45)[3] == 255
    here.click("#main-only")
    here.until_done()
    here.until(lambda: here.pixel("#after", 270 / 320, 0.45)[3] == 0, "the other person is gone")
    assert here.pixel("#after", 120 / 320, 0.5)[3] == 255


def test_photos_are_removed_by_keyboard_and_the_page_starts_over(visit, photo):
    here = visit()
    here.put(photo)
    here.until_done()
    here.one(".thumb").send_keys(Keys.DELETE)
    assert here.one("#welcome").is_displayed()
    assert not here.one("#work").is_displayed()
    assert here.driver.switch_to.active_element.text == "Choose photos"


def test_the_page_speaks_chinese_and_remembers_it(visit):
    here = visit()
    here.click("#language")
    assert here.one("h1").text == "把照片里的人抠出来"
    assert here.script("return document.documentElement.lang") == "zh-Hans"
    here.driver.refresh()
    here.until(lambda: here.one("h1").text == "把照片里的人抠出来", "it remembers")


def test_both_languages_have_the_same_texts():
    text = (page.STATIC / "js" / "strings.js").read_text(encoding="utf-8")
    middle = text.index("  zh: {")
    english, chinese = (re.findall(r"[{,\n]\s*(\w+): \"", part) for part in (text[:middle], text[middle:]))
    assert sorted(english) == sorted(chinese)
    assert len(english) > 60
    used = re.findall(
        r'data-i18n(?:-label)?="(\w+)"', (page.STATIC / "index.html").read_text(encoding="utf-8")
    )
    assert set(used) <= set(english)


def test_a_server_with_keys_asks_for_one_and_uses_it(visit, photo):
    here = visit(api_keys=("a-key",))
    here.until(lambda: here.one("#key-dialog").is_displayed(), "it asks")
    here.one("#key").send_keys("a-key", Keys.ENTER)
    here.put(photo)
    here.until_done()


@pytest.fixture(scope="session")
def axe(tmp_path_factory):
    """The text of axe-core, from npm."""
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip("axe-core comes from npm, which is not installed")
    folder = tmp_path_factory.mktemp("axe")
    packed = subprocess.run(
        [npm, "pack", "--silent", AXE], cwd=folder, capture_output=True, text=True, timeout=120
    )
    if packed.returncode:
        pytest.skip(f"npm pack {AXE} failed: {packed.stderr[-200:]}")
    with tarfile.open(next(folder.glob("*.tgz"))) as archive:
        return archive.extractfile("package/axe.min.js").read().decode()


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_axe_finds_nothing_wrong(visit, photo, axe, theme):
    here = visit()
    here.script("localStorage.setItem('bgclient.theme', arguments[0])", theme)
    here.driver.refresh()

    def check(where):
        here.script(axe)
        found = here.driver.execute_async_script("axe.run().then(found => arguments[0](found.violations))")
        assert not found, (
            where + ": " + "; ".join(f"{v['id']} {[n['target'] for n in v['nodes']]}" for v in found)
        )

    check("welcome")
    here.put(photo)
    here.until_done()
    for opener in ("#crop", '[value="blur"]'):
        here.click(opener)
    check("work")
    here.driver.get(f"{here.address}/docs")
    here.until(lambda: "removebg" in here.one("#operations").text, "the API page is drawn")
    check("docs")


def test_on_a_phone_nothing_is_wider_than_the_screen_and_the_download_is_at_hand(visit, photo):
    here = visit()
    here.driver.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": 390, "height": 844, "deviceScaleFactor": 2, "mobile": True},
    )
    try:
        for ready in (lambda: None, lambda: (here.put(photo), here.until_done())):
            ready()
            assert here.script("return document.documentElement.scrollWidth") <= 390
        box = here.one("#download").rect
        assert box["height"] >= 44
        assert 0 <= box["y"] + box["height"] - here.script("return scrollY") <= 844
    finally:
        here.driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_without_its_files_the_device_mode_is_not_offered(visit, monkeypatch, tmp_path):
    monkeypatch.setattr(page, "STATIC", copied_page(tmp_path, runtime=False))
    here = visit()
    facts = requests.get(f"{here.address}/page.json", timeout=10).json()
    assert facts["on_device"] is False
    assert "network.onnx" in facts["missing"]
    assert not here.one("#device-switch").is_displayed()


def copied_page(folder, *, runtime):
    """The page's files in a folder where more can be added."""
    ignored = shutil.ignore_patterns("vendor", "network.onnx")
    static = shutil.copytree(page.STATIC, folder / "static", ignore=ignored)
    if runtime:
        shutil.copytree(page.STATIC / "vendor", static / "vendor")
    return static


def red_finder():
    """An ONNX network for tests: image uint8 (1, 3, 320, 320) to an alpha that is high where red beats blue."""
    onnx = pytest.importorskip("onnx", reason="onnx makes the network of this test")
    helper, kinds = onnx.helper, onnx.TensorProto
    nodes = [
        helper.make_node("Cast", ["image"], ["colours"], to=kinds.FLOAT),
        helper.make_node("Conv", ["colours", "weights"], ["difference"]),
        helper.make_node("Sigmoid", ["difference"], ["alpha"]),
    ]
    weights = onnx.numpy_helper.from_array(np.float32([0.05, 0, -0.05]).reshape(1, 3, 1, 1), "weights")
    graph = helper.make_graph(
        nodes,
        "red",
        [helper.make_tensor_value_info("image", kinds.UINT8, [1, 3, 320, 320])],
        [helper.make_tensor_value_info("alpha", kinds.FLOAT, [1, 1, 320, 320])],
        [weights],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return model.SerializeToString()


@needs_runtime
def test_on_this_device_the_photo_is_cut_in_the_browser_and_nothing_is_sent(
    visit, monkeypatch, tmp_path, fake_server
):
    static = copied_page(tmp_path, runtime=True)
    (static / "network.onnx").write_bytes(red_finder())
    monkeypatch.setattr(page, "STATIC", static)
    image = Image.new("RGB", (3600, 2400), (30, 60, 200))
    ImageDraw.Draw(image).ellipse((1200, 400, 2400, 2000), fill=(220, 40, 30))
    image = image.resize((900, 600), Image.Resampling.BOX)  # soft edges, as photos have
    image.save(tmp_path / "red.png")

    here = visit()
    here.until(lambda: here.one("#device-switch").is_displayed(), "the switch is offered")
    here.click("#device")
    assert "nothing is sent" in here.one("#privacy").text
    asked = len(fake_server.requests)
    here.script(
        """const veil = document.querySelector("#veil-text");
        window.said = new Set();
        new MutationObserver(() => window.said.add(veil.textContent)).observe(veil, { childList: true });"""
    )
    here.put(tmp_path / "red.png")
    here.until_done()
    said = here.script("return [...window.said]")
    assert "Cutting out" in said
    assert not any("Sending" in text for text in said)
    cutout = np.asarray(opened(here.downloaded("#download", "red-cutout.png")))
    posted = here.script(
        "return performance.getEntriesByType('resource').filter(e => e.name.includes('removebg')).length"
    )
    assert (posted, len(fake_server.requests)) == (0, asked)
    wanted = np.asarray(image)[..., 0] > 125
    found = cutout[..., 3] > 127
    assert (found & wanted).sum() / (found | wanted).sum() > 0.985
    assert (cutout[300, 450] == (220, 40, 30, 255)).all()
    assert cutout[5, 5, 3] == 0
    edge = (cutout[..., 3] > 30) & (cutout[..., 3] < 225)
    assert edge.sum() > 100
    assert cutout[edge][:, 0].mean() > 180, "the edge shows the person's colour, not the old background's"
    assert here.one("#facts").text == "900 × 600 pixels, cut on this device"
    assert not here.one("#main-only").is_displayed()
    assert here.complaints() == []


@needs_runtime
def test_a_photo_whose_png_the_browser_cannot_write_fails_and_says_why(visit, monkeypatch, tmp_path):
    static = copied_page(tmp_path, runtime=True)
    (static / "network.onnx").write_bytes(red_finder())
    worker = static / "js/device-worker.js"
    refusal = 'OffscreenCanvas.prototype.convertToBlob = async () => { throw new DOMException("", "EncodingError"); };'
    worker.write_text(f"{worker.read_text()}\n{refusal}\n")
    monkeypatch.setattr(page, "STATIC", static)
    image = Image.new("RGB", (300, 200), (30, 60, 200))
    ImageDraw.Draw(image).ellipse((50, 50, 250, 150), fill=(220, 40, 30))
    image.save(tmp_path / "red.png")
    here = visit()
    here.until(lambda: here.one("#device-switch").is_displayed(), "the switch is offered")
    here.click("#device")
    here.put(tmp_path / "red.png")
    here.until(lambda: here.state() == "failed", "the photo has failed")
    assert here.one("#veil-text").text == "This result is too large for this browser."
    assert not here.one("#download").is_enabled()
    assert here.complaints() == []


@needs_runtime
def test_a_photo_mended_on_this_device_stays_so_while_another_one_is_shown(visit, monkeypatch, tmp_path):
    static = copied_page(tmp_path, runtime=True)
    (static / "network.onnx").write_bytes(red_finder())
    monkeypatch.setattr(page, "STATIC", static)
    image = Image.new("RGB", (600, 400), (30, 60, 200))
    for circle in ((50, 100, 250, 300), (350, 120, 530, 300)):
        ImageDraw.Draw(image).ellipse(circle, fill=(220, 40, 30))
    for name in ("one", "two"):
        image.save(tmp_path / f"{name}.png")
    here = visit()
    here.until(lambda: here.one("#device-switch").is_displayed(), "the switch is offered")
    here.click("#device")
    here.put(tmp_path / "one.png", tmp_path / "two.png")
    thumbs = here.driver.find_elements(By.CSS_SELECTOR, ".thumb")
    here.until(lambda: all("done" in thumb.get_attribute("class") for thumb in thumbs), "both are cut")
    right = (440 / 600, 210 / 400)

    def alpha():
        return here.pixel("#after", *right)[3]

    here.until(lambda: alpha() == 255, "it is shown")
    here.click("#brush-remove")
    here.draw("mouse", right, (0.75, 0.5))
    here.until(lambda: alpha() == 0, "the right one is removed")
    thumbs[1].click()
    here.until(lambda: alpha() == 255, "nothing is removed from the other photo")
    (tmp_path / "one.png").unlink()
    thumbs[0].click()
    here.until(lambda: alpha() == 0, "it is still removed")
    found = np.asarray(opened(here.downloaded("#download", "one-cutout.png")))[..., 3]
    assert (found[210, 440], found[200, 150]) == (0, 255)
    assert here.complaints() == []


def alphas():
    """Alphas (90, 130) as a network gives them: bodies, passers-by, specks, pinholes, doubt."""
    rng = np.random.default_rng(5)
    for number in range(6):
        noise = cv2.GaussianBlur(rng.normal(0, 1, (90, 130)).astype(np.float32), (0, 0), 3 + 2 * number)
        yield np.clip(0.5 + 2 * noise / np.abs(noise).max() - 0.4 * (number % 2), 0, 1).astype(np.float32)
    picture = np.zeros((90, 130), np.float32)
    cv2.ellipse(picture, (40, 50), (18, 30), 0, 0, 360, 1.0, -1)
    cv2.ellipse(picture, (115, 45), (6, 12), 0, 0, 360, 1.0, -1)  # a passer-by
    picture[48:50, 40:42], picture[5:7, 80:82], picture[40:60, 100:104] = (
        0.2,
        0.9,
        0.3,
    )  # pinhole, speck, doubt
    cv2.ellipse(
        picture, (75, 45), (6, 16), 0, 0, 360, 1.0, -1
    )  # nearer, and farther from the camera than the first
    yield cv2.GaussianBlur(picture, (0, 0), 0.8)
    picture[:] = 0
    picture[40:45, 60:66] = 1  # a rocket's tip
    yield picture


def test_the_page_chooses_and_decides_as_the_server_does(visit):
    here = visit()
    for alpha in alphas():
        height, width = alpha.shape
        found = here.driver.execute_async_script(
            """const [values, width, height, done] = arguments;
            import("/static/js/people.js").then(({ cleaned, subjects, decided }) => {
              const alpha = Float32Array.from(values);
              done([cleaned, subjects, decided].map((step) => Array.from(step(alpha, width, height))));
            });""",
            alpha.ravel().tolist(),
            width,
            height,
        )
        subjects = people.chosen(alpha, "subjects", alpha.shape)
        wanted = people.cleaned(alpha), subjects, people.decided(alpha)
        for values, right in zip(found, wanted, strict=True):
            apart = np.abs(np.float32(values).reshape(alpha.shape) - right)
            # between two parts equally far away, either may be the nearer one
            assert (apart > 1e-6).mean() < 0.002


MARKS = {
    "nothing": ([], []),
    "a dot on a passer-by": ([], [([(230, 90)], 5)]),
    "a line over the body": ([], [([(40, 60), (80, 100), (120, 100.5)], 8)]),
    "two lines that cross": ([([(20, 20), (200, 150)], 6)], [([(20, 150), (200, 20)], 6), ([(0, 0)], 0)]),
    "the photo's last corner": ([([(260, 180)], 3)], []),
}


@pytest.mark.parametrize(("keep", "remove"), MARKS.values(), ids=MARKS)
def test_the_page_decides_strokes_as_the_server_does(visit, keep, remove):
    here = visit()
    size_hw, rng = (180, 260), np.random.default_rng(3)
    marks = {
        name: [{"points": [list(point) for point in points], "radius": radius} for points, radius in strokes]
        for name, strokes in (("keep", keep), ("remove", remove))
    }
    for alpha in alphas():
        guide = cv2.GaussianBlur(rng.integers(0, 256, (*alpha.shape, 3)).astype(np.uint8), (0, 0), 6)
        guide[..., 0] = np.clip(guide[..., 0] + 60 * alpha, 0, 255)
        cleaned = people.cleaned(alpha)
        found = here.driver.execute_async_script(
            """const [alpha, seen, marks, photo, width, height, done] = arguments;
            import("/static/js/strokes.js").then(({ chosen }) => {
              const scene = { alpha: Float32Array.from(alpha), seen: Uint8Array.from(seen), photo, width, height };
              done(Array.from(chosen(scene, marks)));
            });""",
            cleaned.ravel().tolist(),
            guide.ravel().tolist(),
            marks,
            {"width": size_hw[1], "height": size_hw[0]},
            *reversed(alpha.shape),
        )
        large = cv2.resize(
            guide, size_hw[::-1], interpolation=cv2.INTER_NEAREST
        )  # twice the size: exactly undone
        wanted = strokes.chosen(cleaned, photo_from(large), Options(**marks))
        apart = np.abs(np.float32(found).reshape(alpha.shape) - wanted)
        # between two parts equally far away, either may be the nearer one
        assert (apart > 1e-6).mean() < 0.002


def test_strokes_drawn_and_undone_one_by_one_give_the_pixels_of_one_cut_with_all_of_them(visit):
    here = visit()
    rng = np.random.default_rng(8)
    rgba = cv2.GaussianBlur(rng.integers(0, 256, (180, 260, 4)).astype(np.uint8), (0, 0), 5)
    side, (height, width) = 130, (90, 130)  # of the network's picture, and of the photo in it
    small = np.full((side, side, 4), 127, np.uint8)
    small[20 : 20 + height] = cv2.resize(rgba, (width, height), interpolation=cv2.INTER_AREA)
    strokes = [
        {"kind": kind, "points": [list(point) for point in points], "radius": radius}
        for keep, remove in MARKS.values()
        for kind, lines in (("keep", keep), ("remove", remove))
        for points, radius in lines
    ]
    counts = [*range(len(strokes) + 1), 2, 3, 0]
    for inner in alphas():
        alpha = np.zeros((side, side), np.float32)
        alpha[20 : 20 + height] = inner
        changed = here.driver.execute_async_script(
            """const [side, rgba, alpha, pixels, strokes, counts, done] = arguments;
            const modules = ["matting", "brush"].map((name) => import(`/static/js/${name}.js`));
            Promise.all(modules).then(([matting, { marksOf }]) => {
              const width = 260, height = 180, photo = Uint8ClampedArray.from(pixels);
              const answered = { side, rgba: Uint8ClampedArray.from(rgba), alpha: Float32Array.from(alpha) };
              const study = () => matting.studied(answered, { width, height });
              const held = study(), mended = photo.slice(), found = [];
              let low = null;
              for (const count of counts) {
                const marks = marksOf(strokes.slice(0, count)), earlier = mended.slice(), whole = photo.slice();
                const next = matting.coefficients(held, marks);
                matting.cutOut(mended, photo, width, height, next, low);
                low = next;
                matting.cutOut(whole, photo, width, height, matting.coefficients(study(), marks));
                if (whole.some((value, i) => value !== mended[i])) return done(`not the same after ${count} strokes`);
                found.push(mended.filter((value, i) => value !== earlier[i]).length);
              }
              done(found);
            });""",
            side,
            small.ravel().tolist(),
            alpha.ravel().tolist(),
            rgba.ravel().tolist(),
            strokes,
            counts,
        )
        assert isinstance(changed, list), changed
        assert sum(map(bool, changed)) > len(strokes) / 2, "strokes change something"


VISOR = (390 / 512, 455 / 512)
OVER_THE_HELMET = (320 / 512, 440 / 512), (400 / 512, 440 / 512), (470 / 512, 440 / 512)
"""The network leaves out the helmet in the astronaut's arm."""


@needs_runtime
def test_on_this_device_a_photo_is_cut_and_mended_as_python_does_and_nothing_is_sent(visit, examples):
    here = visit()
    here.until(lambda: here.one("#device-switch").is_displayed(), "the switch is offered")
    here.click("#device")
    here.record_marks()
    here.put(examples["astronaut"])
    here.until_done()

    def matte():
        return np.asarray(opened(here.downloaded("#download", "astronaut-cutout.png")))[..., 3]

    first = matte()
    here.click("#brush-keep")
    here.draw("touch", *OVER_THE_HELMET)
    here.until(lambda: here.pixel("#after", *VISOR)[3] == 255, "the helmet is back")
    here.until_done()
    mended, marks = matte(), here.marks()[-1]
    with Client(engine="onnxruntime") as client:
        same(first, client.cut(examples["astronaut"]).matte)
        same(mended, client.cut(examples["astronaut"], **marks).matte)
    here.one("#undo").click()  # by hand: Chromium lets a page download once for each thing that somebody does
    here.until(lambda: here.pixel("#after", *VISOR)[3] == 0, "the stroke is taken back")
    here.until_done()
    assert np.array_equal(matte(), first)
    posted = "return performance.getEntriesByType('resource').filter(e => e.name.includes('removebg')).length"
    assert here.script(posted) == 0
    assert here.complaints() == []


@pytest.fixture
def visit_real(chromium):
    """Opens the page of an app that runs the real network."""
    pytest.importorskip("onnxruntime", reason="the extra 'local' is not installed")
    client = AsyncClient(engine="onnxruntime")
    with listening_on_loopback(create_app(Settings(requests_per_minute=0), client=client)) as address:
        yield lambda: Visit(chromium, address)


def test_one_stroke_mends_a_real_photo_as_python_does_and_undo_takes_it_back(
    visit_real, examples, tmp_path, monkeypatch
):
    monkeypatch.delenv("BGCLIENT_URL", raising=False)
    here = visit_real()
    here.record_marks()
    here.put(examples["astronaut"])
    here.until_done()
    assert here.pixel("#after", *VISOR)[3] == 0
    here.click("#brush-keep")
    assert here.one("#brush-keep").get_attribute("aria-pressed") == "true"
    here.draw("mouse", *OVER_THE_HELMET)
    here.until(lambda: here.pixel("#after", *VISOR)[3] == 255, "the helmet is back")
    here.until_done()
    marks = here.marks()[-1]
    mended = opened(here.downloaded("#download", "astronaut-cutout.png"))
    with Client(engine="onnxruntime") as client:
        wanted = client.cut(examples["astronaut"], **marks)
    assert np.array_equal(np.asarray(mended), wanted.pixels)
    here.click("#undo")
    here.until(lambda: here.pixel("#after", *VISOR)[3] == 0, "the stroke is taken back")
    here.until_done()
    assert not here.one("#undo").is_enabled()
    assert here.complaints() == []


@needs_runtime
def test_a_stroke_is_shown_at_once_and_the_servers_cut_out_takes_its_place(visit_real, examples):
    here = visit_real()
    here.record_marks()
    here.put(examples["astronaut"])
    here.until_done()
    here.script(
        """const { send } = XMLHttpRequest.prototype, { postMessage } = Worker.prototype;
        const released = new Promise((resolve) => { window.release = resolve; });
        window.order = [];
        XMLHttpRequest.prototype.send = function (body) {
          window.order.push("the server is asked");
          released.then(() => send.call(this, body));
        };
        Worker.prototype.postMessage = function (...message) {
          const answered = ({ data }) => { if (data.result) window.order.push("this device has answered"); };
          this.addEventListener("message", answered, { once: true });
          return postMessage.apply(this, message);
        };"""
    )
    here.click("#brush-keep")
    here.until(lambda: here.script("return window.order.length"), "this device has looked at the photo")
    here.draw("mouse", *OVER_THE_HELMET)
    here.until(lambda: here.pixel("#after", *VISOR)[3] == 255, "the helmet is back")
    here.until_done()
    shown = np.array(here.picture("#after"))
    looked, *order = here.script("return window.order")
    assert [looked, *order] == ["this device has answered", "the server is asked", "this device has answered"]
    here.script("window.release()")
    mended = np.asarray(opened(here.downloaded("#download", "astronaut-cutout.png")))
    with Client(engine="onnxruntime") as client:
        wanted = client.cut(examples["astronaut"], **here.marks()[-1])
    assert np.array_equal(mended, wanted.pixels)
    same(shown, wanted.matte)
    here.until(lambda: np.array_equal(here.picture("#after"), wanted.matte), "the server's is shown")
    assert not np.array_equal(shown, wanted.matte)
    assert here.complaints() == []


@pytest.mark.parametrize("kind", ["mouse", "pen", "touch"])
def test_a_stroke_of_mouse_pen_or_finger_is_sent_in_pixels_of_the_photo(visit, photo, kind):
    here = visit()
    here.record_marks()
    here.put(photo)
    here.until_done()
    here.click("#brush-remove")
    here.draw(kind, (0.1, 0.1), (0.15, 0.15))
    here.until(here.marks, "it is sent")
    (stroke,) = here.marks()[-1]["remove"]
    assert stroke["radius"] == 12
    for (x, y), wanted in zip(
        (stroke["points"][0], stroke["points"][-1]), ((80, 60), (120, 90)), strict=True
    ):
        assert abs(x - wanted[0]) <= 2 >= abs(y - wanted[1])
    here.until_done()
    assert here.complaints() == []


def test_a_stroke_that_removes_everybody_can_be_taken_back(visit, photo):
    here = visit()
    here.put(photo)
    here.until_done()
    here.click("#brush-remove")
    here.draw("mouse", *((x, y) for y in (0.2, 0.4, 0.6, 0.8) for x in (0.2, 0.8)))
    here.until(lambda: here.state() == "failed", "nobody is left")
    assert here.one("#veil-text").text == "Nobody was found in this photo."
    here.click("#undo")
    here.until_done()
    here.until(lambda: here.pixel("#after", 0.5, 0.5)[3] == 255, "they are back")
