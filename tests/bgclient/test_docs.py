"""The documentation says what is: its examples run, its tables are complete."""

import dataclasses
import doctest
import gzip
import json
import re
import statistics

import pytest
from PIL import Image
from typer.main import get_command

from bgclient import mcp
from bgclient._retry import FIRST_CONTACT_S
from bgclient.cli import app
from bgclient.cli._console import Status
from bgclient.cli._run import LOOK
from bgclient.web import connections, page
from bgclient.web.export import export
from bgclient.web.settings import Settings as WebSettings
from bgimage import encode, foreground, heap, matte, people, strokes
from bgimage.codec import Limits
from bgserver import keeper, stuck
from bgserver.options import PORTS
from bgserver.repository import model_repository
from bgserver.settings import Settings


def examples_of(path):
    return re.findall(r"^```python\n(.*?)^```", path.read_text(), re.MULTILINE | re.DOTALL)


def test_the_examples_of_the_client_s_page_run_one_after_another(
    root, run_python, grpc_server, jpeg, tmp_path
):
    blocks = examples_of(root / "docs" / "client.md")
    assert len(blocks) >= 9
    for name in ("me.jpg", "you.jpg"):
        (tmp_path / name).write_bytes(jpeg)
    (tmp_path / "nobody.jpg").write_bytes(jpeg[:200])
    script = "\n".join([f"import os; os.chdir({str(tmp_path)!r})", *blocks])
    done = run_python(script, BGCLIENT_URL=grpc_server.url)
    assert done.returncode == 0, done.stderr[-3000:]
    assert {"me.png", "me.webp", "me-on-white.jpg", "0.png", "1.png"} <= {
        path.name for path in tmp_path.iterdir()
    }
    assert "broken_photo" in done.stdout


def test_the_examples_of_the_readme_run_and_print_what_it_says(root, run_python, grpc_server, tmp_path):
    session, script = examples_of(root / "README.md")
    Image.open(root / "examples" / "astronaut.png").save(tmp_path / "me.jpg", quality=95)
    photo = (tmp_path / "me.jpg").read_bytes()
    examples = doctest.DocTestParser().get_examples(session)
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "one.jpg").write_bytes(photo)
    here = f"import os; os.chdir({str(tmp_path)!r})\n"
    lines = [f"print({one.source.strip()})" if one.want else one.source for one in examples]
    done = run_python(here + "\n".join(lines))
    assert done.returncode == 0, done.stderr[-3000:]
    wanted = "".join(one.want for one in examples)
    # figures differ by a pixel from processor to processor
    shown, wanted = (re.sub(r"\d+", "9", text) for text in (done.stdout, wanted))
    assert doctest.OutputChecker().check_output(wanted, shown, doctest.ELLIPSIS), done.stdout
    assert {"me.png", "me-on-white.jpg"} <= {path.name for path in tmp_path.iterdir()}
    assert (tmp_path / "me.jpg").read_bytes() == photo
    done = run_python(here + script.replace("gpu-host:8001", grpc_server.url), BGCLIENT_URL=grpc_server.url)
    assert done.returncode == 0, done.stderr[-3000:]
    assert (tmp_path / "photos" / "one.png").exists()


@pytest.mark.parametrize("command", ["cut", "serve", "web", "mcp", "info", "doctor"])
def test_every_command_and_every_option_of_cut_stands_on_the_page(root, command):
    page = (root / "docs" / "cli.md").read_text()
    assert f"bgclient {command}" in page
    if command == "cut":
        for option in get_command(app).commands["cut"].params:
            for name in option.opts if option.param_type_name == "option" else ():
                assert f"`{name}" in page, name


def test_every_exit_status_stands_on_the_page_and_in_the_module(root):
    import bgclient.cli

    page = (root / "docs" / "cli.md").read_text()
    for status in Status:
        assert f"| {int(status)} |" in page
        assert re.search(rf"^    {int(status)} ", bgclient.cli.__doc__, re.MULTILINE)


SIDE = int(
    re.search(r"dims: \[1, (\d+), \1\]", (model_repository() / "matte" / "config.pbtxt").read_text())[1]
)
WORDS = {2: "two", 10: "ten"}
LIMITS = {
    "CONTRIBUTING.md": [f"FP16 weights ({(page.STATIC / 'network.onnx').stat().st_size / 1e6:.1f} MB"],
    "SECURITY.md": [
        f"at most {WebSettings.max_upload_bytes >> 20} MiB a picture",
        f"and {WORDS[mcp.AT_A_TIME]} are cut at a time",
        f"closed after {connections.HEAD_S:g} s",
        f"has computed for {stuck.COMPUTED_S} s of a core",
        f"hangs for {stuck.STUCK_S} s ends itself",
        f"photos of {Limits.max_pixels / 1e6:g} megapixels, "
        f"or requests of {Limits.max_batch_pixels / 1e6:g} megapixels",
    ],
    "docs/cli.md": [
        f"an expected IoU below {LOOK} are listed",
        f"and {WORDS[mcp.AT_A_TIME]} photos are cut at a time",
    ],
    "docs/client.md": [
        f"input has {3 * SIDE**2 / 1e3:.0f} kB (three bytes for each of {SIDE} x {SIDE} pixels)",
        f"its answer {4 * SIDE**2 / 1e3:.0f} kB (four bytes)",
        f"at most {strokes.MOST:,} numbers",
        f"at most {WORDS[FIRST_CONTACT_S]} seconds",
        " ".join(f"{name}={value}" for name, value in heap.environment().items()),
    ],
    "docs/gallery.md": [f"expected IoU is below {LOOK}"],
    "docs/operations.md": [
        f"network's size ({4 * SIDE**2 / 1e6:.1f} MB",
        f"{Settings.cache_mb} MB hold {Settings.cache_mb * 10**6 // (4 * SIDE**2)}",
        f"{stuck.COMPUTED_S} s of a core where a decoder keeps computing, and {stuck.STUCK_S} s where a network",
        f"a pause of 1 to {keeper.MAX_PAUSE_S:g} s",
    ],
    "docs/pixels.md": [
        f"a matte of {SIDE} pixels",
        f"stays below {strokes.REACH:g} + {strokes.AGREED:g} times",
        f"and {strokes.STEP:g} a pixel",
        f"reaches {strokes.REACH / strokes.STEP:.0f} of these pixels",
        f"below {people.BEHIND:.0%}".replace("%", " %"),
        f"less than {people.NECK:.0%}".replace("%", " %"),
        f"below {people.SPECK:.1%}".replace("%", " %"),
        f"within {people.SOFT:.1%}".replace("%", " %"),
        f"at about {matte.MIDDLE} pixels",
        f"Windows are {2 * matte.RADIUS + 1} x {2 * matte.RADIUS + 1}",
        f"bands of {foreground.BAND} rows",
        f"packs it at level {encode._LEVEL}",
        f"{matte.RIBBON} pixels high",
    ],
    "docs/rest.md": [
        f"`file_too_large` ({WebSettings.max_upload_bytes >> 20} MiB a picture)",
        f"`resolution_too_high` ({WebSettings.max_pixels / 1e6:g} megapixels)",
        f"at least {connections.LEAST_BYTES_S:,} bytes a second",
    ],
    "docs/web.md": [
        f"stored in FP16 ({(page.STATIC / 'network.onnx').stat().st_size / 1e6:.1f} MB)",
        f"has looked at ({8 * SIDE**2 / 1e6:.1f} MB)",
    ],
    "model_repository/README.md": [
        f"at most {Limits.max_batch_bytes >> 20} MiB and {Limits.max_batch_pixels / 1e6:g} megapixels together"
    ],
}


@pytest.mark.parametrize("name", LIMITS)
def test_a_limit_on_a_page_is_the_code_s(root, name):
    text = " ".join((root / name).read_text().split())
    assert [words for words in LIMITS[name] if words not in text] == []


@pytest.mark.parametrize("name", ["docs/operations.md", "docs/rest.md"])
def test_a_number_that_a_page_gives_as_a_setting_s_default_is_the_default(root, name):
    code = {f"BGSERVER_{field.name.upper()}": field.default for field in dataclasses.fields(Settings)}
    code |= {f"BGSERVER_{port.upper()}": number for port, number in PORTS.items()}
    code |= {f"BGCLIENT_WEB_{field.name.upper()}": field.default for field in dataclasses.fields(WebSettings)}
    del code["BGCLIENT_WEB_CONCURRENCY"]  # depends on the machine
    units = {"": 1, "MiB": 1 << 20, "million": 10**6}
    compared = 0
    for cell, default in re.findall(r"^\| (`BG[^|]*) \| ([^|]*) \|", (root / name).read_text(), re.MULTILINE):
        first, *others = re.findall(r"`([A-Z_]+)`", cell)
        stems = [first[:end] for end in range(len(first), -1, -1)]
        names = [first, *(next(stem + other for stem in stems if stem + other in code) for other in others)]
        values = [value for value in map(code.get, names) if type(value) in (int, float)]
        if values:
            said = re.findall(r"(\d+)(?: (MiB|million))?", default)
            assert [int(number) * units[unit] for number, unit in said] == values, names
            compared += 1
    assert compared >= 5


@pytest.mark.skipif(
    not all((page.STATIC / name).is_file() for name in page.ON_DEVICE), reason="make web-assets"
)
def test_the_sizes_of_the_web_page_s_files_are_the_ones_on_its_page(root, tmp_path):
    text = " ".join((root / "docs" / "web.md").read_text().split())
    packed = page.STATIC / "vendor" / "ort-wasm-simd-threaded.wasm.gz"
    assert f"a download of {packed.stat().st_size / 1e6:.0f} MB" in text
    assert f"the runtime is {len(gzip.decompress(packed.read_bytes())) / 1e6:.0f} MB" in text
    site = sum(path.stat().st_size for path in export(tmp_path / "site"))
    assert f"index.html and static/, {site / 1e6:.0f} MB" in text


def test_slices_of_the_test_photos_have_the_sizes_on_the_page(root):
    text = (root / "docs" / "evaluation.md").read_text().partition("| slice |")[2].partition("\n\n")[0]
    counts = [column.partition("/")[2] for column in re.findall(r"^(?:\| [^|]*){2}\|([^|]*)\|", text, re.M)]
    slices = json.loads((root / "training" / "results" / "tiramisu-test.json").read_text())["slices"]
    found = [int(count) for column in counts for count in re.findall(r"\d+", column)]
    assert found == [one["photos"] for one in slices.values()]


def test_the_page_s_times_of_a_stroke_are_those_of_the_committed_results(root):
    cases = json.loads((root / "benchmarks/results/stroke/amd-epyc-2-cores.json").read_text())["cases"]
    medians = {
        case["setting"]["mode"]: {
            key: statistics.median(series["values"]) for key, series in case["series"].items()
        }
        for case in cases
    }
    text = (root / "docs" / "web.md").read_text()
    for mode, ms, cpu_ms in (
        ("device", "ms", "cpu_ms"),
        ("server", "ms", "cpu_ms"),
        ("server", "exact_ms", "server_cpu_ms"),
    ):
        assert f"| {medians[mode][ms]:.0f} ms, {medians[mode][cpu_ms]:.0f} ms |\n" in text
    processes = ("front", "tritonserver", "bgclient_preprocess", "tiramisu_onnx", "bgclient_postprocess")
    rows = {"a new photo": "new", "the same again": "again", "the same with a stroke": "stroke"}
    for name, mode in rows.items():
        parts = [medians[mode][f"{process} cpu"] for process in processes]
        cells = " | ".join(f"{ms:.0f}" for ms in [medians[mode]["ms"], *parts, sum(parts)])
        assert f"| {name} | {cells} |\n" in text


def test_the_sizes_of_a_photo_on_a_slow_line_are_those_of_the_committed_results(root):
    def size(name, setting, series):
        cases = json.loads((root / "benchmarks" / "results" / name).read_text())["cases"]
        (case,) = (case for case in cases if {**case["setting"], "scenario": case["scenario"]} == setting)
        return statistics.median(case["series"][series]["values"])

    one = {"scenario": "one user", "megapixels": 1, "where": "server"}
    photo = size("amd-epyc-2-cores-cpu.json", one, "sent")
    ours = {"scenario": "stages", "megapixels": 1, "pipeline": "ours"}
    cutout = size("pixels/speed-amd-epyc-2-cores.json", ours, "png size")
    text = " ".join((root / "docs" / "client.md").read_text().split())
    assert f"amd-epyc-2-cores-cpu.json) has {photo:.2f} MB" in text
    assert f"speed-amd-epyc-2-cores.json) {cutout:.1f} MB: {(photo + cutout) * 8 / 20 + 0.04:.1f} s" in text


def measured(root, name, scenario, series):
    """Setting and raw values of each case of a committed result."""
    cases = json.loads((root / "benchmarks" / "results" / name).read_text())["cases"]
    return [
        (case["setting"], case["series"][series]["values"]) for case in cases if case["scenario"] == scenario
    ]


def test_the_readme_s_times_are_those_of_the_committed_results(root):
    networks = measured(root, "amd-epyc-2-cores-cpu.json", "network, bare", "latency")
    network_ms = min(statistics.median(ms) for setting, ms in networks if setting["batch"] == 1)
    removers = {
        setting["rival"]: statistics.median(s)
        for setting, s in measured(root, "amd-epyc-2-cores-rivals.json", "rival speed", "cutout")
    }
    ours_s = removers.pop("bgclient")
    text = (root / "README.md").read_text()
    assert f"| the network alone | {network_ms:.0f} ms a photo |" in text
    assert f"| a 12-megapixel JPEG to a PNG, end to end | {ours_s:.1f} s |" in text
    assert (
        f"| the same with other removers | {min(removers.values()):.1f} to {max(removers.values()):.1f} s |"
        in text
    )
    better = [removers[name] / ours_s for name in ("modnet", "rembg-u2net", "imgly", "rvm")]
    assert f"They need {min(better):.0f} to {max(better):.0f} times as long for a 12-megapixel photo" in text


def test_the_readme_s_iou_is_the_mean_over_the_sets_of_the_committed_comparison(root):
    sets = ("ccp", "20-70 % people", "pennfudan", "vikram_humanseg")
    means = [
        statistics.mean(ious)
        for setting, ious in measured(root, "amd-epyc-2-cores-rivals.json", "rival quality", "iou")
        if setting["rival"] == "bgclient" and setting["group"] in sets
    ]
    assert len(means) == len(sets)
    assert f"its mean IoU is {statistics.mean(means):.3f}" in (root / "README.md").read_text()


def test_the_missed_targets_of_the_pixels_page_are_those_of_the_results(root):
    page = (root / "docs" / "pixels.md").read_text()
    results = (root / "benchmarks" / "RESULTS.md").read_text()
    _, targets = results.split("### Targets")
    targets = targets[: targets.index("###")]
    for path in ("thin client", "server"):
        for said in (path, f"{path}, plain"):
            (times,) = re.findall(rf"(?:\| |; ){said} ([\d.]+) times", targets)
            assert f"{times} times" in page, said
    (alone,) = re.findall(r"the network alone ([\d.]+)", targets)
    assert f"The network alone answers {alone} on" in page
    (row,) = re.findall(r"\| finish, 1 MP \| ms \| ([\d.]+) .*? \| ([\d.]+) ", results)
    before, now = row
    assert f"takes {now} ms at 1 megapixel where an earlier commit took {before}" in page
    assert f"{float(now) / float(before):.2f} of it" in page
