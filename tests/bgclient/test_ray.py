"""``bgclient.ray.Cutter`` alone, and in a local Ray cluster of two workers."""

from __future__ import annotations

import importlib.util
import io
import pickle

import numpy as np
import pytest
from PIL import Image

from bgclient.client import Client
from bgclient.errors import OptionError, ServerUnavailable
from bgclient.ray import Cutter
from bgclient.testing import FakeServer


def photo(width=64):
    out = io.BytesIO()
    Image.new("RGB", (width, 48), (200, 80, 40)).save(out, "jpeg")
    return out.getvalue()


def fake_client():
    return Client("fake:8001", connector=FakeServer())


def size(data):
    return Image.open(io.BytesIO(data)).size


def column(values):
    made = np.empty(len(values), object)
    made[:] = values
    return made


def test_a_batch_keeps_its_order_and_other_columns_and_names_its_errors():
    batch = {"bytes": column([photo(64), b"no photo", photo(80)]), "path": column(["a", "b", "c"])}
    out = Cutter(client=fake_client)(batch)
    assert list(out) == ["path", "cutout", "expected_iou", "box", "error"]
    assert list(out["path"]) == ["a", "b", "c"]
    assert [size(data) for data in out["cutout"][[0, 2]]] == [(64, 48), (80, 48)]
    assert out["cutout"][1] == b""
    assert [bool(e) for e in out["error"]] == [False, True, False]
    assert out["error"][1].startswith("unknown_format: ")
    assert out["expected_iou"].dtype == np.float32
    assert out["box"].shape == (3, 4)
    assert (out["box"][0] > 0).any()
    assert (out["box"][1] == 0).all()


def test_pixels_are_taken_as_well_as_bytes():
    pixels = np.full((2, 48, 64, 3), 90, np.uint8)
    out = Cutter(client=fake_client, photo="image", keep_photo=True, format="webp")({"image": pixels})
    assert out["image"] is pixels
    assert all(Image.open(io.BytesIO(data)).format == "WEBP" for data in out["cutout"])


def test_an_empty_batch_has_the_columns_too():
    out = Cutter(client=fake_client)({"bytes": column([])})
    assert {name: len(values) for name, values in out.items()} == {
        "cutout": 0,
        "expected_iou": 0,
        "box": 0,
        "error": 0,
    }


def test_a_server_that_is_down_fails_the_batch_unless_that_is_wanted_otherwise():
    def down():
        return Client("fake:8001", connector=FakeServer(down=["fake:8001"]), timeout_s=2)

    batch = {"bytes": column([photo()])}
    with pytest.raises(ServerUnavailable):
        Cutter(client=down)(batch)
    assert Cutter(client=down, transport_errors="column")(batch)["error"][0].startswith(
        "server_unavailable: "
    )


def test_what_is_wrong_with_the_call_is_said_before_the_job_starts():
    with pytest.raises(OptionError, match="backgroud"):
        Cutter(client=fake_client, backgroud="white")
    with pytest.raises(ValueError, match="transport_errors"):
        Cutter(client=fake_client, transport_errors="hide")
    with pytest.raises(KeyError, match="'path'"):
        Cutter(client=fake_client)({"path": column(["a"])})


def test_a_cutter_is_picklable():
    cutter = pickle.loads(pickle.dumps(Cutter("localhost:8001", background="white")))
    assert cutter._how["options"].background == (255, 255, 255, 255)


@pytest.fixture(scope="module")
def cluster():
    """Ray on this machine with two workers."""
    ray = pytest.importorskip("ray", reason="the extra 'ray' is not installed")
    pytest.importorskip("ray.data", reason="the extra 'ray' is not installed")
    for last in (False, False, True):
        try:
            ray.init(
                num_cpus=2, include_dashboard=False, object_store_memory=100_000_000, log_to_driver=False
            )
            break
        except (
            Exception
        ):  # Ray gives its own processes 15 seconds to start, which a busy machine may not keep
            ray.shutdown()
            if last:
                raise
    ray.data.DataContext.get_current().enable_progress_bars = False
    yield ray
    ray.shutdown()


def local_client():
    """A function of this test's own: Ray's workers cannot import this module."""

    def make():
        from bgclient.client import Client
        from bgclient.testing import FakeServer

        return Client("fake:8001", connector=FakeServer())

    return make


@pytest.mark.slow
def test_two_ray_workers_cut_a_data_set_with_broken_photos_in_it(cluster, tmp_path):
    class Named(Cutter):
        """Says which process it runs in; begins when there are two."""

        def __call__(self, batch):
            import os
            import time

            (tmp_path / str(os.getpid())).touch()
            end = time.monotonic() + 120
            while len(list(tmp_path.iterdir())) < 2 and time.monotonic() < end:
                time.sleep(
                    0.05
                )  # on a busy machine one worker would cut everything before the other is there
            out = super().__call__(batch)
            return out | {"worker": np.full(len(out["error"]), os.getpid())}

    rows = [{"bytes": b"broken" if n % 8 == 5 else photo(40 + n), "n": n} for n in range(32)]
    out = (
        cluster.data.from_items(rows, override_num_blocks=8)
        .map_batches(
            Named,
            fn_constructor_kwargs={"client": local_client()},
            batch_size=4,
            compute=cluster.data.ActorPoolStrategy(size=2),
        )
        .take_all()
    )
    found = {row["n"]: row for row in out}
    assert sorted(found) == list(range(32))
    assert {n for n, row in found.items() if row["error"]} == {5, 13, 21, 29}
    assert all(size(row["cutout"]) == (40 + n, 48) for n, row in found.items() if not row["error"])
    assert len({row["worker"] for row in out}) == 2


@pytest.mark.server
@pytest.mark.slow
def test_two_ray_workers_cut_photos_through_the_real_server(cluster, server, examples):
    names = ["astronaut", "grace_hopper", "rocket", "chelsea"]
    rows = [{"name": name, "bytes": examples[name].read_bytes()} for name in names]
    rows.append({"name": "half", "bytes": rows[1]["bytes"][: len(rows[1]["bytes"]) // 2]})
    data = cluster.data.from_items(rows, override_num_blocks=5).map_batches(
        Cutter,
        fn_constructor_kwargs={"url": server.grpc_url, "where": "server", "format": "png"},
        batch_size=1,
        compute=cluster.data.ActorPoolStrategy(size=2),
    )
    found = {row["name"]: row for row in data.take_all()}
    assert sorted(found) == sorted([*names, "half"])
    assert found["half"]["error"].startswith("broken_photo: ")
    with Client(server.grpc_url, timeout_s=120.0) as client:
        for name in names:
            wanted = client.cut(examples[name])
            pixels = np.asarray(Image.open(io.BytesIO(found[name]["cutout"]))).astype(int)
            # the network's last bits depend on the batch that a photo was in
            assert np.abs(pixels - wanted.pixels).max() <= 1, name
            assert found[name]["expected_iou"] == pytest.approx(wanted.expected_iou, abs=1e-3)
            assert tuple(found[name]["box"]) == pytest.approx(wanted.box or (0, 0, 0, 0), abs=1)


@pytest.fixture
def job(root, monkeypatch):
    """``examples/ray_job.py`` with the made-up server."""
    pytest.importorskip("pyarrow", reason="the extra 'ray' is not installed")
    spec = importlib.util.spec_from_file_location("ray_job", root / "examples" / "ray_job.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    client = local_client()
    monkeypatch.setattr(module, "cutter_options", lambda: {"client": client})
    return module


@pytest.mark.slow
@pytest.mark.parametrize("format", ["png", "parquet"])
def test_the_example_job_resumes_and_names_the_failures(cluster, job, tmp_path, capsys, format):
    source, out = tmp_path / "photos", tmp_path / "out"
    for name in ("a/1.jpg", "a/2.jpg", "b/1.jpg"):
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_bytes(photo())
    (source / "b" / "broken.jpg").write_bytes(b"broken")
    arguments = [str(source), str(out), "--format", format, "--workers", "1"]

    assert job.main(arguments) == 1
    said = capsys.readouterr().err
    assert "4 photos to cut, 0 are cut already" in said
    assert "broken.jpg: unknown_format: " in said

    (source / "b" / "broken.jpg").write_bytes(photo())
    (source / "new.jpg").write_bytes(photo())
    assert job.main(arguments) == 0
    assert "2 photos to cut, 3 are cut already" in capsys.readouterr().err
    assert job.main(arguments) == 0
    assert "0 photos to cut, 5 are cut already" in capsys.readouterr().err
    if format == "png":
        names = sorted(str(p.relative_to(out)) for p in out.rglob("*") if p.is_file())
        assert names == ["a/1.jpg.png", "a/2.jpg.png", "b/1.jpg.png", "b/broken.jpg.png", "new.jpg.png"]
