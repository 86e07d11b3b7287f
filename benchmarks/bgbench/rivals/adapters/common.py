"""The adapters' shared loop. Standard library only: it runs in every rival's environment."""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any


def arguments() -> argparse.ArgumentParser:
    """What every adapter is called with."""
    parser = argparse.ArgumentParser()
    parser.add_argument("photos", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--form", choices=("alpha", "cutout"), default="alpha")
    parser.add_argument("--repeat", type=int, default=1)
    return parser


def serve(
    args: argparse.Namespace,
    *,
    rival: str,
    packages: list[str],
    device: str,
    load_s: float,
    alpha: Callable[[bytes], Any],
    cutout: Callable[[bytes], bytes],
    save: Callable[[Any, Path], None],
) -> None:
    """Time every photo, write its picture, print the JSON lines; the first photo is done once unmeasured."""
    versions = {name: importlib.metadata.version(name) for name in packages}
    print(json.dumps({"rival": rival, "versions": versions, "load_s": load_s, "device": device}), flush=True)
    photos = sorted(args.photos.glob("*.jpg"))
    make = alpha if args.form == "alpha" else cutout
    make(photos[0].read_bytes())
    for photo in photos:
        data = photo.read_bytes()
        seconds = []
        for _ in range(args.repeat):
            started = time.perf_counter()
            made = make(data)
            seconds.append(round(time.perf_counter() - started, 5))
        target = args.out / f"{photo.stem}.png"
        if args.form == "alpha":
            save(made, target)
        else:
            target.write_bytes(made)
        print(json.dumps({"key": photo.stem, "seconds": seconds}), flush=True)
