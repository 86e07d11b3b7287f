"""This project as a user calls it: ``bgclient.cut`` with the network in its own process."""

import time

from common import arguments, serve

started = time.perf_counter()
import cv2  # noqa: E402

import bgclient  # noqa: E402

args = arguments().parse_args()
client = bgclient.Client(timeout_s=120)
info = client.info()[0]
serve(
    args,
    rival="bgclient",
    packages=["onnxruntime", "pillow", "numpy", "opencv-python-headless"],
    device=f"{info.network} on {info.server}",
    load_s=time.perf_counter() - started,
    alpha=lambda data: client.cut(data, output="matte").matte,
    cutout=lambda data: client.cut(data).png(),
    save=lambda matte, path: cv2.imwrite(str(path), matte, [cv2.IMWRITE_PNG_COMPRESSION, 1]),
)
