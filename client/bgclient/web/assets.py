"""Fetches ONNX Runtime for WebAssembly from npm into the page's folder: "on this device" needs it.

``python client/bgclient/web/assets.py`` needs npm once; nothing is fetched when the page runs. It imports the standard
library only, because the wheel's build runs it before anything is installed.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

VERSION = "1.30.0"
"""Of npm's onnxruntime-web."""
SHA512 = "q0y+JrrtukXSzsBWEMccVfqX25LRmosXHF+CaRJmg8pZClzcV7svNc4rKY3jL02Vb7QmRMDs1SigqR4CXAfKYQ=="
"""Of its archive, base64, as npm states it."""

_FILES = {
    "package/dist/ort.wasm.bundle.min.mjs": "ort.wasm.bundle.min.mjs",
    "package/dist/ort-wasm-simd-threaded.wasm": "ort-wasm-simd-threaded.wasm.gz",
    "package/dist/ort-wasm-simd-threaded.mjs": "ort-wasm-simd-threaded.mjs",
}
_LICENCE = """onnxruntime-web {version}, https://github.com/microsoft/onnxruntime

MIT License

Copyright (c) Microsoft Corporation

Permission is hereby granted, free of charge, to any person obtaining a copy of this software and associated
documentation files (the "Software"), to deal in the Software without restriction, including without limitation the
rights to use, copy, modify, merge, publish, distribute, sublicense, and/or sell copies of the Software, and to permit
persons to whom the Software is furnished to do so, subject to the following conditions:

The above copyright notice and this permission notice shall be included in all copies or substantial portions of the
Software.

THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR IMPLIED, INCLUDING BUT NOT LIMITED TO THE
WARRANTIES OF MERCHANTABILITY, FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT. IN NO EVENT SHALL THE AUTHORS OR
COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM, DAMAGES OR OTHER LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR
OTHERWISE, ARISING FROM, OUT OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE SOFTWARE.
"""

VENDOR = Path(__file__).parent / "static" / "vendor"
"""The runtime; not part of the repository."""


class AssetError(Exception):
    """The files cannot be fetched."""


def fetch_runtime(folder: Path = VENDOR) -> list[Path]:
    """The runtime's files, from npm, checked against ``SHA512``.

    Raises:
        AssetError: no npm, no registry, or another archive than the one that was looked at.
    """
    npm = shutil.which("npm")
    if npm is None:
        raise AssetError('npm is not installed; without it "on this device" is left out')
    with tempfile.TemporaryDirectory() as temporary:
        command = [npm, "pack", "--json", f"onnxruntime-web@{VERSION}", "--pack-destination", temporary]
        packed = subprocess.run(command, capture_output=True, text=True, cwd=temporary, check=False)
        if packed.returncode:
            raise AssetError(f"npm pack onnxruntime-web@{VERSION} failed: {packed.stderr.strip()[-300:]}")
        archive = Path(temporary) / json.loads(packed.stdout)[0]["filename"]
        found = base64.b64encode(hashlib.sha512(archive.read_bytes()).digest()).decode()
        if found != SHA512:
            raise AssetError(f"onnxruntime-web {VERSION} has the SHA-512 {found}, expected {SHA512}")
        return _unpack(archive, folder)


def _unpack(archive: Path, folder: Path) -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    with tarfile.open(archive) as tar:
        for member, name in _FILES.items():
            try:
                source = tar.extractfile(member)
            except KeyError:
                source = None
            if source is None:
                raise AssetError(f"{archive.name} has no {member}")
            data = source.read()
            (folder / name).write_bytes(gzip.compress(data, mtime=0) if name.endswith(".gz") else data)
            written.append(folder / name)
    licence = folder / "ort.LICENSE"  # the archive has none
    licence.write_text(_LICENCE.format(version=VERSION), encoding="utf-8")
    return [*written, licence]


def main() -> int:
    """0 when the runtime is in place."""
    try:
        written = fetch_runtime()
    except AssetError as error:
        print(error, file=sys.stderr)
        return 1
    for path in written:
        print(f"{path.stat().st_size:>10}  {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
