"""What keeps a server from starting is said in one sentence, with a non-zero exit, and nothing is left."""

import json
import os
import resource
import shutil
import subprocess
import sys
import sysconfig
import types
from pathlib import Path

import pytest

from bgimage import heap
from bgimage.errors import OptionError, from_message
from bgserver import Server, Settings, canary, errors, installation, rundir

PACKAGES = Path(errors.__file__).parents[1]


def serve(repository, *, before="", environment=None, arguments=(), open_files=None):
    """``python -m bgserver serve`` in a mount namespace of its own, after the shell line ``before``."""
    (repository / "matte").mkdir()  # serve loads both ensembles
    command = [sys.executable, "-m", "bgserver", "serve", "--repository", str(repository), "--variant", "cpu"]
    command += ["--grpc-port", "0", "--http-port", "0", "--metrics-port", "0", *arguments]
    if before:
        command = ["unshare", "--mount", "sh", "-c", f'{before} && exec "$@"', "sh", *command]
    environment = {**os.environ, "PYTHONPATH": str(PACKAGES), **(environment or {})}
    limit = open_files and (lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (open_files, open_files)))
    return subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=120, check=False, preexec_fn=limit
    )


@pytest.fixture
def namespaces():
    """Skips where this user may not mount."""
    tried = subprocess.run(
        ["unshare", "--mount", "mount", "-t", "tmpfs", "tmpfs", "/mnt"],
        capture_output=True,
        text=True,
        check=False,
    )
    if tried.returncode:
        pytest.skip(f"needs the right to mount in a namespace of its own: {tried.stderr.strip()}")


def test_too_little_shared_memory_is_said_before_anything_starts(tiny_repository, namespaces):
    ended = serve(tiny_repository, before="mount -t tmpfs -o size=16m tmpfs /dev/shm")
    assert ended.returncode == 1
    last = ended.stderr.strip().splitlines()[-1]
    assert last.startswith(
        "shared_memory_too_small: 16 MiB free in /dev/shm, 48 MiB needed; give the container more"
    )


def test_a_full_disk_is_said(tiny_repository, namespaces, tmp_path):
    small = tmp_path / "small"
    small.mkdir()
    ended = serve(
        tiny_repository,
        before=f'mount -t tmpfs -o size=256k tmpfs "{small}"',
        environment={"TMPDIR": str(small)},
    )
    assert ended.returncode == 1
    assert ended.stderr.strip().splitlines()[-1].startswith(f"disk_full: no room in {small}")


def test_a_tmp_that_takes_no_folder_is_said_also_where_tmpdir_is_elsewhere(tiny_repository, namespaces):
    ended = serve(
        tiny_repository,
        before="mount --bind /tmp /tmp && mount -o remount,bind,ro /tmp",
        environment={"TMPDIR": "/var/tmp"},
    )
    assert ended.returncode == 1
    last = ended.stderr.strip().splitlines()[-1]
    assert last.startswith(
        "disk_full: /tmp takes no folder (read-only file system), and Triton's Python backend"
    )


@pytest.mark.server
def test_a_limit_of_open_files_that_is_too_low_is_said_instead_of_a_port_that_is_taken(tiny_repository):
    ended = serve(tiny_repository, open_files=64)
    assert ended.returncode == 1
    last = ended.stderr.strip().splitlines()[-1]
    assert last.startswith("too_few_open_files: 64 open files allowed, 128 needed; raise the limit")


def test_a_server_may_open_as_many_files_as_the_hard_limit_allows():
    code = "import resource; from bgserver import keeper; keeper._allow_open_files(); print(*resource.getrlimit(7))"
    ended = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(PACKAGES)},
        capture_output=True,
        text=True,
        check=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (100, 1000)),
    )
    assert ended.stdout == "1000 1000\n"


@pytest.mark.server
def test_a_model_without_a_version_is_said(tiny_repository):
    shutil.rmtree(tiny_repository / "cutout" / "1")
    ended = serve(tiny_repository)
    assert ended.returncode == 1
    assert "network_missing: model cutout has no version to serve" in ended.stderr.strip().splitlines()[-1]


@pytest.mark.server
def test_a_model_that_cannot_be_imported_is_said_in_its_own_words(tiny, tiny_repository):
    (tiny_repository / "cutout" / "1" / "model.py").write_text("import no_such_module\n")
    with pytest.raises(errors.ModelRefused, match="No module named 'no_such_module'"):
        tiny().start()


def test_a_model_that_is_not_in_the_repository_is_said(tiny_repository):
    with pytest.raises(errors.NetworkMissing, match="has no model no_such_model"):
        Settings(repository=tiny_repository, models=("cutout", "no_such_model"))


@pytest.mark.server
def test_a_model_that_dies_while_it_loads_is_said_at_once(tiny, tiny_repository):
    model = tiny_repository / "cutout" / "1" / "model.py"
    model.write_text(
        model.read_text() + "\n    def initialize(self, args):\n        __import__('os').abort()\n"
    )
    with pytest.raises(errors.ServerError):
        tiny(start_timeout_s=25.0).start()


@pytest.mark.server
def test_a_model_that_answers_wrongly_is_not_called_ready(tiny, tiny_repository):
    model = tiny_repository / "cutout" / "1" / "model.py"
    model.write_text(
        model.read_text().replace(
            'Tensor("cutout", photos)', 'Tensor("cutout", __import__("numpy").array([[b"hm"]], object))'
        )
    )
    with pytest.raises(errors.CanaryFailed, match="not a PNG of the photo's size"):
        tiny().start()


def test_a_repository_that_is_not_there_is_said(tmp_path):
    with pytest.raises(errors.NetworkMissing, match="is not a folder"):
        Settings(repository=tmp_path / "nowhere")


def test_an_unknown_variant_lists_the_known_ones(tiny_repository):
    with pytest.raises(OptionError, match="onnx-gpu, cpu, trt"):
        Settings(variant="gpu", repository=tiny_repository)


def test_a_machine_without_any_tritonserver_is_told_how_to_get_one(monkeypatch):
    monkeypatch.setattr(installation, "unavailable", lambda: None)
    monkeypatch.setattr(installation.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(errors.ServerMissing, match="-m bgserver install"):
        installation.find_tritonserver()


@pytest.mark.parametrize(
    ("machine", "libc", "python"),
    [
        ("arm64", ("glibc", "2.36"), (3, 11)),
        ("x86_64", ("glibc", "2.31"), (3, 11)),
        ("x86_64", ("", ""), (3, 11)),
        ("x86_64", ("glibc", "2.36"), (3, 13)),
    ],
)
def test_a_machine_that_can_have_no_pip_installed_server_is_told_what_works_instead(
    machine, libc, python, monkeypatch, tiny_repository
):
    monkeypatch.setattr(installation, "SYSTEM_TRITON", Path("nowhere"))
    monkeypatch.setattr(installation.importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(installation.platform, "machine", lambda: machine)
    monkeypatch.setattr(installation.platform, "libc_ver", lambda: libc)
    system = types.SimpleNamespace(platform="linux", version_info=python, executable=sys.executable)
    monkeypatch.setattr(installation, "sys", system)
    server = Server(Settings(variant="cpu", repository=tiny_repository, models=("cutout",)))
    for ask in (installation.find_tritonserver, installation.install, server.start):
        with pytest.raises(
            errors.ServerMissing, match=r"needs Linux on x86-64.* pip install 'bgclient\[local\]'"
        ):
            ask()


def test_a_system_tritonserver_comes_before_the_wheel(monkeypatch, tmp_path):
    system = tmp_path / "tritonserver"
    system.touch()
    monkeypatch.setattr(installation, "SYSTEM_TRITON", system)
    found = installation.find_tritonserver()
    assert found.binary == system
    assert found.wheel is found.numpy is found.stub is None  # it brings its own backends


def test_an_engine_for_a_system_tritonserver_is_refused(monkeypatch, tmp_path, tiny_repository):
    monkeypatch.setattr(installation, "SYSTEM_TRITON", Path(sys.executable))
    server = Server(
        Settings(variant="cpu", repository=tiny_repository, models=("cutout",), engine="openvino")
    )
    with pytest.raises(
        errors.EngineMissing, match="the system's tritonserver runs networks in backends of its own"
    ):
        server.start()


@pytest.mark.server
def test_a_plan_is_not_served_without_nvidia_s_backend(tiny_repository):
    server = Server(Settings(variant="trt", repository=tiny_repository, models=("cutout",)))
    with pytest.raises(errors.EngineMissing, match="use that image, or variant onnx-gpu"):
        server.start()


@pytest.mark.server
def test_numpy_2_without_a_numpy_1_for_the_models_is_told_how_to_get_one(monkeypatch):
    monkeypatch.setattr(installation, "_numpy_is_new", lambda: True)
    monkeypatch.setattr(installation, "_NUMPY_FOLDER", "nowhere")
    with pytest.raises(
        errors.WrongPython, match=r"numpy==1\.26\.4 beside this environment's numpy; run .* install"
    ):
        installation.find_tritonserver()


def test_a_python_without_a_shared_library_is_said(tmp_path, tiny_repository):
    stub = tmp_path / "wheel" / "python_backend_stubs"
    stub = stub / f"{sys.version_info.major}.{sys.version_info.minor}" / "triton_python_backend_stub"
    stub.parent.mkdir(parents=True)
    said = "stub: error while loading shared libraries: libpython3.99.so.1.0: cannot open shared object file"
    stub.write_text(f'#!/bin/sh\necho "{said}" >&2\nexit 127\n')
    stub.chmod(0o755)
    backends = tmp_path / "wheel" / "backends" / "python"
    backends.mkdir(parents=True)
    for name in ("libtriton_python.so", "triton_python_backend_utils.py"):
        (backends / name).touch()
    wheel = installation.Installation(binary=tmp_path / "tritonserver", wheel=tmp_path / "wheel")
    with pytest.raises(
        errors.WrongPython, match=r"^libpython3\.99\.so\.1\.0: cannot open .* apt-get install libpython3"
    ):
        rundir.RunDir.create(wheel, [])


def test_the_server_gets_a_heap_for_photos_but_what_the_user_has_set_stays(tmp_path, monkeypatch):
    monkeypatch.delenv("MALLOC_ARENA_MAX", raising=False)
    monkeypatch.setenv("MALLOC_TRIM_THRESHOLD_", "1")
    with (tmp_path / "lock").open("w") as lock:
        environment = rundir.RunDir(tmp_path, lock).environment()
    assert environment["MALLOC_ARENA_MAX"] == heap.environment()["MALLOC_ARENA_MAX"]
    assert environment["MALLOC_TRIM_THRESHOLD_"] == "1"


@pytest.mark.server
def test_shared_memory_that_cannot_be_written_to_has_a_sentence_of_its_own(monkeypatch, tmp_path):
    monkeypatch.setattr(rundir, "SHARED_MEMORY", tmp_path / "absent")
    with pytest.raises(errors.SharedMemoryTooSmall, match=r"cannot be written to.*--shm-size"):
        rundir.RunDir.create(installation.find_tritonserver(), [])


def test_every_error_crosses_the_keeper_s_pipe_as_itself():
    def kinds(kind):
        return [kind, *(deeper for child in kind.__subclasses__() for deeper in kinds(child))]

    for kind in kinds(errors.ServerError):
        assert type(from_message(kind("it is so: because").message())) is kind


@pytest.mark.server
def test_only_what_is_asked_for_is_served_and_nobody_can_load_more(tiny, tiny_repository):
    shutil.copytree(tiny_repository / "cutout", tiny_repository / "other")
    (tiny_repository / "broken").mkdir()
    with tiny() as server:
        (model,) = repository_index(server)
        assert (model["name"], model["state"]) == ("cutout", "READY")
        for name in ("other", "cutout"):
            status, _, said = canary.request(
                server.http_url, "POST", f"/v2/repository/models/{name}/load", b"{}", headers=admin(server)
            )
            assert status != 200
            assert b"explicit model load / unload is not allowed" in said


def admin(server):
    return {canary.ADMIN_HEADER: server.settings.admin_key}


def repository_index(server):
    url, path = server.http_url, "/v2/repository/index"
    return json.loads(canary.request(url, "POST", path, b"", headers=admin(server))[2])


def test_an_ensemble_brings_the_models_that_it_calls(tiny_repository):
    ensemble = tiny_repository / "matte"
    ensemble.mkdir()
    (ensemble / "config.pbtxt").write_text('ensemble_scheduling { step { model_name: "cutout" } }')
    (ensemble / "configs").mkdir()
    (ensemble / "configs" / "trt.pbtxt").write_text('ensemble_scheduling { step { model_name: "missing" } }')
    assert {path.name for path in rundir.served(tiny_repository, ["matte"], "cpu")} == {"matte", "cutout"}
    with pytest.raises(errors.NetworkMissing, match="has no model missing"):
        rundir.served(tiny_repository, ["matte"], "trt")


@pytest.mark.parametrize("name", ["Jürgen", "with space", "写真"])
def test_a_temporary_folder_that_the_models_cannot_work_in_is_passed_over(name, tmp_path, monkeypatch):
    odd = tmp_path / name
    odd.mkdir()
    monkeypatch.setattr(rundir.tempfile, "gettempdir", lambda: str(odd))
    assert rundir._base() in (Path("/tmp"), Path("/var/tmp"))


SERVING = """
import sys
from bgserver import Server, Settings, canary, installation, model_repository
places = [sys.prefix, str(installation.find_tritonserver().binary), canary.__file__, str(model_repository())]
assert all("Jürgen" in place for place in places), places
settings = Settings(variant="cpu", threads=1, start_timeout_s=300.0, canary_timeout_s=60.0)
with Server(settings, log="log") as server:
    server.check(60.0)
    print(server.state)
"""


@pytest.mark.server
def test_a_checkout_and_an_environment_in_a_folder_with_other_letters_than_ascii_serve(tmp_path, root):
    home = tmp_path / "Jürgen"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", home / ".venv"], check=True)
    (packages,) = (home / ".venv").glob("lib/python3*/site-packages")
    for entry in Path(sysconfig.get_path("purelib")).iterdir():
        (packages / entry.name).symlink_to(entry)
    (packages / "editable.pth").write_text(f"{home}/client\n", encoding="utf-8")
    for name in ("client", "model_repository"):
        shutil.copytree(root / name, home / name, ignore=shutil.ignore_patterns("__pycache__"))
    done = subprocess.run(
        [home / ".venv" / "bin" / "python", "-c", SERVING],
        cwd=home,
        env={**os.environ, "PYTHONPATH": str(home / "client")},
        capture_output=True,
        text=True,
        timeout=360,
        check=False,
    )
    assert done.stdout == "ready\n", done.stderr[-2000:]
