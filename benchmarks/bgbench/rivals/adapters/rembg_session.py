"""rembg's ``remove`` with a session of U²-Net or U²-Netp."""

import io
import time

from common import arguments, serve

started = time.perf_counter()
from PIL import Image  # noqa: E402
from rembg import new_session, remove  # noqa: E402

parser = arguments()
parser.add_argument("--model", required=True)
args = parser.parse_args()
session = new_session(args.model)
serve(
    args,
    rival="rembg",
    packages=["rembg", "onnxruntime", "pillow", "numpy"],
    device=session.inner_session.get_providers()[0],
    load_s=time.perf_counter() - started,
    alpha=lambda data: remove(Image.open(io.BytesIO(data)), session=session, only_mask=True),
    cutout=lambda data: remove(data, session=session),
    save=lambda matte, path: matte.save(path, compress_level=1),
)
