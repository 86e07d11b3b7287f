"""What one stroke of the page's brush costs: from the lifted pen to the drawn result, and the processor time for it.

    python -m bgbench stroke                 a minute or two; needs Chromium, chromedriver and ``make web-assets``

The page runs in a real Chromium before a real server. "ms" is when a cut-out is drawn first, "cpu_ms" the work of the
page's worker. With "server", the server's own cut-out is drawn too ("exact_ms", "server_cpu_ms"); where it comes first,
the worker's is not drawn and both times are the same. The processor time is that of the worker's thread, and of front
and tritonserver. Chromium's own drawing, here without a GPU, goes on as long as somebody waits: it is left out, and so
are the threads that decode and encode. Nothing asks the browser meanwhile.

Before that, photos are cut by REST, while no browser works: each once, which costs the network; once again, when the
server still has its answer; and with a stroke. What each process works for them is written down.
"""

from __future__ import annotations

import contextlib
import io
import json
import re
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import psutil
from PIL import Image

from bgbench import command, environment
from bgbench.errors import ToolFailed, ToolMissing
from bgbench.load.overload import front
from bgbench.photos import jpegs
from bgbench.results import Case, Result, Series
from bgbench.serving import serving
from bgclient.web.page import missing_assets
from bgserver import Settings

STROKES = 6
CUTS = 20
WARM_UP = 2
MEGAPIXELS = 1
RADIUS = 20
"""Of a stroke by REST, pixels."""
PATIENCE_S = 120.0

_TIMED = """
const { drawImage } = CanvasRenderingContext2D.prototype;
const marks = document.querySelector("#marks");
let pictures = new Map(), awaited = 0, lifted = 0, done = null;
CanvasRenderingContext2D.prototype.drawImage = function (picture, ...rest) {
  drawImage.call(this, picture, ...rest);
  if (this.canvas.id !== "after" || !done || pictures.has(picture)) return;
  pictures.set(picture, performance.now() - lifted);
  // where the server is first, nothing follows: its cut-out is both
  if (pictures.size < awaited) setTimeout(answer, 3000, done);
  else answer(done);
};
const answer = (whose) => {
  if (whose !== done) return;
  done([...pictures.values()]);
  done = null;
};
window.timed = (act, count, answer) => {
  [awaited, done] = [count, answer];
  pictures.clear();
  lifted = performance.now();
  act();
};
window.stroke = () => {
  const box = marks.getBoundingClientRect();
  const event = (name, share) => marks.dispatchEvent(new PointerEvent(name, {
    pointerId: 1, bubbles: true, clientX: box.x + share * box.width, clientY: box.y + 0.8 * box.height,
  }));
  marks.setPointerCapture = () => {};
  event("pointerdown", 0.4);
  event("pointermove", 0.45);
  lifted = performance.now();
  event("pointerup", 0.5);
};
window.undo = () => document.querySelector("#undo").click();
"""
_TIMED_ACT = "window.timed(window[arguments[0]], arguments[1], arguments[2])"


def measure(address: str, photo: Path) -> Iterator[Case]:
    """The page's two modes, at the same front."""
    with _browser() as driver:
        for mode in ("server", "device"):
            with environment.watching() as watch:
                found = _strokes(driver, address, photo, mode == "device")
            tool = "page's clock; processor time of the page's worker, and of front and server"
            yield _case("stroke", mode, tool, found, watch.others)


def cuts(address: str, cache: Path) -> Iterator[Case]:
    """Cuts by REST: of photos that are new to the server, of the same again, and of these with a stroke."""
    photos = jpegs(MEGAPIXELS, WARM_UP + CUTS, cache)
    found: dict[str, dict[str, list[float]]] = {"new": {}, "again": {}, "stroke": {}}
    with environment.watching() as watch, httpx.Client(timeout=PATIENCE_S) as client:
        for photo in photos:
            width, height = Image.open(io.BytesIO(photo)).size
            line = [[round(0.4 * width), round(0.8 * height)], [round(0.5 * width), round(0.8 * height)]]
            for mode, series in found.items():
                marks = {"keep": json.dumps([{"points": line, "radius": RADIUS}])} if mode == "stroke" else {}
                before, began = _processes_s(), time.perf_counter()
                answer = client.post(f"{address}/v1.0/removebg", files={"image_file": photo}, data=marks)
                took = {"ms": time.perf_counter() - began}
                answer.raise_for_status()
                time.sleep(0.1)  # what still ends after the answer
                took |= {f"{name} cpu": now - before[name] for name, now in _processes_s().items()}
                for name, seconds in took.items():
                    series.setdefault(name, []).append(1000 * seconds)
    for mode, series in found.items():
        tool = "REST, one at a time; processor time by process, of the server's models by name"
        yield _case("cut", mode, tool, series, watch.others)


def _case(scenario: str, mode: str, tool: str, found: dict[str, list[float]], others: float | None) -> Case:
    """``found``: milliseconds by name, the warm-up among them."""
    series = {
        name: Series(unit="ms", values=values[WARM_UP:], warm_up=values[:WARM_UP])
        for name, values in found.items()
    }
    setting = {"mode": mode, "megapixels": MEGAPIXELS}
    return Case(scenario=scenario, setting=setting, tool=tool, series=series, others=others)


def _processes_s() -> dict[str, float]:
    """Processor time so far: of the front, tritonserver, and each of its models (all of its processes)."""
    found: dict[str, float] = {}
    for process in psutil.Process().children(recursive=True):
        words = process.cmdline()
        model = re.search(r"/models/(\w+)/", words[1]) if process.name().startswith("triton_python") else None
        if model or process.name() == "tritonserver" or "web" in words[:4]:
            name = model[1] if model else "front" if "web" in words[:4] else "tritonserver"
            # in nanoseconds; psutil knows hundredths of a second
            tasks = Path(f"/proc/{process.pid}/task").glob("*/schedstat")
            found[name] = found.get(name, 0) + sum(1e-9 * int(task.read_text().split()[0]) for task in tasks)
    return found


def _strokes(driver: Any, address: str, photo: Path, on_device: bool) -> dict[str, list[float]]:
    driver.get(address)
    driver.set_script_timeout(PATIENCE_S)
    _until(lambda: driver.execute_script("return !document.querySelector('#device-switch').hidden"))
    if on_device:
        driver.execute_script("document.querySelector('#device').click()")
    driver.find_element("id", "files").send_keys(str(photo.resolve()))
    _until(lambda: _state(driver) == "done")
    driver.execute_script(_TIMED + "document.querySelector('#brush-remove').click()")
    _until_idle(driver)  # the worker has opened the photo
    pictures = 1 if on_device else 2
    found: dict[str, list[float]] = {"ms": [], "cpu_ms": []}
    if not on_device:
        found |= {"exact_ms": [], "server_cpu_ms": []}
    for _ in range(WARM_UP + STROKES):
        workers, servers = _worker_s(driver), _servers_s(driver)
        drawn = driver.execute_async_script(_TIMED_ACT, "stroke", pictures)
        found["ms"].append(drawn[0])
        found["cpu_ms"].append(1000 * (_worker_s(driver) - workers))
        if not on_device:
            found["exact_ms"].append(drawn[-1])
            found["server_cpu_ms"].append(1000 * (_servers_s(driver) - servers))
        driver.execute_async_script(_TIMED_ACT, "undo", pictures)
        time.sleep(0.5)
    return found


def _servers_s(driver: Any) -> float:
    """Processor time so far of all that runs below this process, without it and the browser: front and server."""
    browser = psutil.Process(driver.service.process.pid)
    return environment.own_s() - environment.own_s(browser) - sum(psutil.Process().cpu_times()[:2])


def _worker_s(driver: Any) -> float:
    """Processor time so far of the page's worker."""
    browser = psutil.Process(driver.service.process.pid)
    total = 0.0
    for process in (browser, *browser.children(recursive=True)):
        with contextlib.suppress(psutil.Error, FileNotFoundError):  # ended between listing and reading
            for thread in process.threads():
                name = Path(f"/proc/{process.pid}/task/{thread.id}/comm").read_text()
                if name.startswith("DedicatedWorker"):
                    total += thread.user_time + thread.system_time
    return total


def _until_idle(driver: Any) -> None:
    """Until the page's worker has worked, and then rested for two seconds."""
    _until(lambda: _worker_s(driver) > 0)
    last = None
    while last != (last := _worker_s(driver)):
        time.sleep(2)


def _state(driver: Any) -> str:
    state: str = driver.execute_script("return document.querySelector('#stage').dataset.state")
    return state


def _until(true: Callable[[], Any]) -> None:
    end = time.monotonic() + PATIENCE_S
    while not true():
        if time.monotonic() > end:
            raise ToolFailed(f"the page did not do what was asked within {PATIENCE_S:.0f} s")
        time.sleep(0.02)


@contextmanager
def _browser() -> Iterator[Any]:
    try:
        from selenium import webdriver
    except ImportError as error:
        raise ToolMissing("selenium is not installed; pip install selenium") from error
    binary, driver_path = shutil.which("chromium"), shutil.which("chromedriver")
    if not (binary and driver_path):
        raise ToolMissing("no chromium and chromedriver on PATH; apt-get install chromium chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = binary
    for flag in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
        options.add_argument(flag)
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver_path))
    try:
        yield driver
    finally:
        driver.quit()


def run(cache: Path) -> Result:
    """Start server, front and browser, and measure."""
    if missing := missing_assets():
        raise ToolMissing(f"the page lacks {', '.join(missing)}: make web-assets")
    began = time.monotonic()
    result = command.begun("stroke", command.served_network())
    jpegs(MEGAPIXELS, 1, cache)
    with tempfile.TemporaryDirectory() as folder, serving(cache_mb=Settings.cache_mb) as served:
        result.environment["server"] = served.describe()
        with front(served.url, Path(folder) / "front.log") as address:
            photo = cache / "photos" / f"{MEGAPIXELS}mp-0.jpg"
            result.cases = [*cuts(address, cache), *measure(address, photo)]
    result.seconds = round(time.monotonic() - began, 1)
    return result
