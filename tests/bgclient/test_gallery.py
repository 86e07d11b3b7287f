"""``examples/gallery.py``: the sheet and the page that it writes."""

import importlib
import re
import sys

import pytest
from PIL import Image

pytest.importorskip("onnxruntime")


@pytest.fixture
def gallery(root, monkeypatch):
    """The script as a module."""
    monkeypatch.syspath_prepend(str(root / "examples"))
    yield importlib.import_module("gallery")
    for name in ("gallery", "demo"):
        sys.modules.pop(name, None)


def test_sheet_page_and_the_readme_s_portraits_are_written(gallery, monkeypatch, tmp_path):
    here = tuple(one for one in gallery.PHOTOS if "/" not in one.file)
    monkeypatch.setattr(gallery, "PHOTOS", here)
    monkeypatch.setattr(sys, "argv", ["gallery.py", "--docs", str(tmp_path), "--portraits"])
    assert gallery.main() == 0
    rows = re.findall(r"^\| \d+ \| (.*?) \| (.*?) \|", (tmp_path / "gallery.md").read_text(), re.M)
    assert [title for title, _ in rows] == [one.title for one in here]
    assert re.fullmatch(r"expected IoU 0\.\d\d", dict(rows)["Grace Hopper"])
    with Image.open(tmp_path / gallery.SHEET) as sheet:
        assert sheet.size == (3 * 418, 2 * 212)
    with Image.open(tmp_path / "images/before-after.jpg") as portraits:
        assert portraits.size == (900, 900)


def test_the_page_names_source_and_terms_of_each_of_the_twelve_photos(gallery, root):
    page = (root / "docs/gallery.md").read_text()
    rows = re.findall(r"^\| \d+ \| (.*?) \| .*? \| (.*?) \| (.*?) \|$", page, re.M)
    assert rows == [(one.title, one.source, one.terms) for one in gallery.PHOTOS]
    assert len(rows) == 12


def test_a_photo_whose_package_is_missing_is_said_with_the_mend(gallery):
    with pytest.raises(FileNotFoundError, match="pip install scikit-image"):
        gallery.Shown("no_such_package/data/x.png", "x", "x", "x").photo()
