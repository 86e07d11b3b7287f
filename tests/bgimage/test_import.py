"""Importing bgimage is light."""

import subprocess
import sys


def test_opencv_and_the_encoders_wait_until_they_are_needed():
    code = (
        "import sys\n"
        "import bgimage.codec, bgimage.finish, bgimage.geometry, bgimage.options\n"
        "heavy = {'cv2', 'simplejpeg', 'isal', 'torch', 'scipy', 'numba', 'PIL.ImageCms'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
