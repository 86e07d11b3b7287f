"""Packages whose call takes a photo and returns the cut-out, a Pillow image: withoutBG with open weights, and BEN2."""

import io
import time
from collections.abc import Callable

from common import arguments, serve

parser = arguments()
parser.add_argument("--package", choices=("withoutbg", "ben2"), required=True)
args = parser.parse_args()
started = time.perf_counter()
from PIL import Image  # noqa: E402

device = "cpu"
cut: Callable[[Image.Image], Image.Image]
if args.package == "withoutbg":
    from withoutbg import WithoutBG

    cut = WithoutBG.open_weights().remove_background
else:
    import torch
    from ben2 import BEN_Base

    device = "cuda" if torch.cuda.is_available() else "cpu"
    cut = BEN_Base.from_pretrained("PramaLLC/BEN2").to(device).eval().inference


def cutout(data: bytes) -> bytes:
    """PNG with the colours and the matte, by Pillow's fastest level."""
    png = io.BytesIO()
    cut(Image.open(io.BytesIO(data)).convert("RGB")).save(png, "PNG", compress_level=1)
    return png.getvalue()


serve(
    args,
    rival=args.package,
    packages=[args.package, "pillow"],
    device=device,
    load_s=time.perf_counter() - started,
    alpha=lambda data: cut(Image.open(io.BytesIO(data)).convert("RGB")).getchannel("A"),
    cutout=cutout,
    save=lambda matte, path: matte.save(path, compress_level=1),
)
