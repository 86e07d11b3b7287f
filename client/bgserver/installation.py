"""Where a tritonserver is: the system's (NVIDIA's container) or the one in PyPI's nvidia-pytriton wheel.

Only the files of the wheel are used, never its Python API. Its Python backend was built with pybind11 2.10,
which reads arrays of numpy 2 with strides of zero (python_backend pull request 384 mended that later): every
pixel would equal the first, and a BYTES tensor ends the process. So the server's models, and nothing else,
get a numpy 1 of their own, in a folder next to the wheel's libraries.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import shlex
import shutil
import subprocess
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path

from bgserver.errors import ServerMissing, WrongPython

SYSTEM_TRITON = Path("/opt/tritonserver/bin/tritonserver")
"""Where NVIDIA's container has it; preferred, since it carries the C++ backends."""

WHEEL = "nvidia-pytriton==0.7.0"
"""Carries ``TRITON`` with HTTP, gRPC and metrics, and the Python backend for Python 3.8 to 3.13."""

TRITON = "tritonserver==2.51.0"
"""What the wheel carries."""

NUMPY = "numpy==1.26.4"
"""The last numpy 1, for the wheel's Python backend; it has wheels for Python 3.11 and 3.12."""

BACKENDS = Path(__file__).parent / "backends"
"""Ours: Python programs in the place of C++ backends that the wheel does not have."""

_GLIBC = (2, 35)
"""What the wheel was built against."""

_NUMPY_FOLDER = "nvidia_pytriton.numpy"
_INSTALL = f'"{sys.executable}" -m bgserver install'


@dataclass(frozen=True, kw_only=True)
class Installation:
    """A tritonserver that can be started."""

    binary: Path
    """The executable."""
    wheel: Path | None = None
    """The wheel's ``tritonserver`` folder; None for a system server, which has its own backends."""
    numpy: Path | None = None
    """Folder with the numpy of the server's models; None: that of this environment."""

    @property
    def stub(self) -> Path | None:
        """The Python backend's process for the running Python; None for a system server."""
        if self.wheel is None:
            return None
        version = f"{sys.version_info.major}.{sys.version_info.minor}"
        return self.wheel / "python_backend_stubs" / version / "triton_python_backend_stub"


def _numpy_is_new() -> bool:
    return int(importlib.metadata.version("numpy").split(".")[0]) >= 2


def unavailable() -> str | None:
    """Why this machine cannot install the wheel, and what works instead; None where it can."""
    libc, libc_version = platform.libc_ver()
    has_libc = libc == "glibc" and tuple(map(int, libc_version.split("."))) >= _GLIBC
    on = sys.platform == "linux" and platform.machine() == "x86_64" and has_libc
    if on and (3, 11) <= sys.version_info[:2] < (3, 13):
        return None
    return (
        "the pip-installable tritonserver needs Linux on x86-64, glibc 2.35 or newer, and Python 3.11 or 3.12; this is "
        f"Python {sysconfig.get_python_version()} on {platform.system()} {platform.machine()}"
        f"{f', {libc} {libc_version}' if libc else ''}. What works here: pip install 'bgclient[local]', which runs the "
        "network without a server (bgclient cut; bgclient web --engine onnxruntime), or BGCLIENT_URL=host:8001"
    )


def find_tritonserver() -> Installation:
    """The system's tritonserver where there is one, else the wheel's.

    Raises:
        ServerMissing: neither is there; where the wheel cannot be installed, it says what works instead.
        WrongPython: the wheel is there, but cannot run models under this Python.
    """
    if SYSTEM_TRITON.is_file():
        return Installation(binary=SYSTEM_TRITON)
    spec = importlib.util.find_spec("pytriton")
    if spec is None or not spec.submodule_search_locations:
        raise ServerMissing(
            unavailable() or f"no {SYSTEM_TRITON} and no nvidia-pytriton in this environment; run {_INSTALL}"
        )
    site = Path(next(iter(spec.submodule_search_locations))).parent
    numpy = site / _NUMPY_FOLDER
    found = Installation(
        binary=site / "pytriton" / "tritonserver" / "bin" / "tritonserver",
        wheel=site / "pytriton" / "tritonserver",
        numpy=numpy if _numpy_is_new() else None,
    )
    if not found.binary.is_file():
        raise ServerMissing(f"the nvidia-pytriton in {site} has no tritonserver; run {_INSTALL}")
    if found.stub is None or not found.stub.is_file():
        raise WrongPython(
            unavailable()
            or f"the nvidia-pytriton in {site} has no Python backend for this Python; run {_INSTALL}"
        )
    if found.numpy and not (found.numpy / "numpy").is_dir():
        raise WrongPython(f"the server's models need {NUMPY} beside this environment's numpy; run {_INSTALL}")
    return found


def install() -> Installation:
    """Install what ``find_tritonserver`` looks for into the running environment, with pip; nothing if it is
    there.

    Without dependencies: the wheel's metadata would pull this environment's numpy down to 1.

    Raises:
        ServerMissing: it cannot run here, or pip could not install it; pip's own words are on stderr.
    """
    try:
        return find_tritonserver()
    except (ServerMissing, WrongPython):
        if why := unavailable():
            raise ServerMissing(why) from None
    folder = Path(sysconfig.get_path("purelib")) / _NUMPY_FOLDER
    steps = [[WHEEL]] + ([["--upgrade", "--target", str(folder), NUMPY]] if _numpy_is_new() else [])
    for step in steps:
        command = [
            sys.executable,
            "-m",
            "pip",
            "install",
            "--quiet",
            "--no-deps",
            "--disable-pip-version-check",
            *step,
        ]
        if subprocess.run(command, check=False).returncode:
            raise ServerMissing(f"pip could not install {step[-1]}; see above")
    importlib.invalidate_caches()
    return find_tritonserver()


def _programs(folder: Path) -> Path:
    """Where the models find the Python of this environment.

    It reads .pth files as ASCII and would end over one that names a folder with other letters, such as that of an
    editable install in Jürgen/. Then ``folder`` becomes a second way into the environment, without these.
    """
    packages = Path(sysconfig.get_path("purelib"))
    odd = {path.name for path in packages.glob("*.pth") if not path.read_bytes().isascii()}
    if not odd or sys.prefix == sys.base_prefix or not packages.is_relative_to(sys.prefix):
        return Path(sys.executable).parent
    programs, same = folder / "bin", folder / packages.relative_to(sys.prefix)
    programs.mkdir(parents=True, exist_ok=True)
    same.mkdir(parents=True, exist_ok=True)
    settings = (Path(sys.prefix) / "pyvenv.cfg").read_text(encoding="utf-8").splitlines()
    kept = [line for line in settings if line.startswith(("home", "include-system-site-packages"))]
    (folder / "pyvenv.cfg").write_text("\n".join(kept), encoding="utf-8")
    links = {programs / "python3": Path(sys.executable)}
    links |= {same / entry.name: entry for entry in packages.iterdir() if entry.name not in odd}
    for link, target in links.items():
        link.unlink(missing_ok=True)
        link.symlink_to(target)
    return programs


def lay_out_backends(installation: Installation, folder: Path) -> None:
    """Make ``folder`` the ``--backend-directory`` of the wheel's tritonserver: its Python backend, and ours beside it.

    Its models run in this environment, whatever else is on ``PATH`` where the server is started. Nothing to do for a
    system server, which has backends of its own.
    """
    if installation.wheel is None or installation.stub is None:
        return
    python = folder / "python"
    python.mkdir(parents=True, exist_ok=True)
    # Copies: Triton refuses a backend library that is a link to somewhere else.
    shutil.copy2(installation.wheel / "backends" / "python" / "libtriton_python.so", python)
    utils = (installation.wheel / "backends" / "python" / "triton_python_backend_utils.py").read_text()
    # The models' interpreter knows no PYTHONPATH, and this module is the first that a model of ours imports.
    # It may hold every path for ASCII: bytes are right whatever their letters.
    first = [os.fsencode(installation.numpy)] if installation.numpy else []
    (python / "triton_python_backend_utils.py").write_text(
        f"import os\nimport sys\n\nsys.path[:0] = map(os.fsdecode, {first!r})\n\n{utils}"
    )
    # The stub finds its own libraries from where it lies, Python by PATH, and Python's library by LD_LIBRARY_PATH.
    library = sysconfig.get_config_var("LIBDIR") or ""
    stub = python / "triton_python_backend_stub"
    stub.unlink(missing_ok=True)
    stub.write_text(
        "#!/bin/sh\n"
        f'PATH={shlex.quote(str(_programs(python / "environment")))}:"$PATH"\n'
        f'LD_LIBRARY_PATH={shlex.quote(library)}"${{LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}}"\n'
        "export PATH LD_LIBRARY_PATH\n"
        f'exec {shlex.quote(str(installation.stub))} "$@"\n'
    )
    stub.chmod(0o755)
    for backend in BACKENDS.iterdir():
        if (backend / "model.py").is_file():
            (folder / backend.name).mkdir(exist_ok=True)
            shutil.copy2(backend / "model.py", folder / backend.name)
