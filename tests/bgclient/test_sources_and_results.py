"""Everything that may be a photo, and everything that may be done with a cut-out."""

import dataclasses
import io
import pickle
import stat
from pathlib import Path
from typing import get_type_hints

import numpy as np
import pytest
from PIL import Image

from bgclient._files import remove_parts, write_atomically
from bgclient.client import Client
from bgclient.errors import (
    BrokenPhoto,
    EmptyPhoto,
    OptionError,
    PhotoTooLarge,
    ServerUnavailable,
    SourceError,
    UnknownFormat,
    UrlRefused,
)
from bgclient.options import CutOptions
from bgclient.results import Encoded
from bgclient.testing import FakeServer
from bgimage.codec import Limits, decode
from bgimage.options import Options


@pytest.fixture
def client(fake):
    return Client("fake:8001", connector=fake)


def sources(photo, jpeg, folder):
    path = folder / "me.jpg"
    path.write_bytes(jpeg)
    rgba = np.dstack([photo, np.full(photo.shape[:2], 255, np.uint8)])
    return {
        "text": str(path),
        "path": path,
        "bytes": jpeg,
        "bytearray": bytearray(jpeg),
        "memoryview": memoryview(jpeg),
        "open file": path.open("rb"),
        "BytesIO": io.BytesIO(jpeg),
        "PIL image": Image.fromarray(photo),
        "PIL image of a file": Image.open(path),
        "array": photo,
        "array with alpha": rgba,
        "grey array": photo[..., 0],
        "deep array": photo.astype(np.uint16) * 257,
    }


@pytest.mark.parametrize("where", ["client", "server"])
def test_a_photo_may_come_as_almost_anything(client, photo, jpeg, tmp_path, where):
    for name, source in sources(photo, jpeg, tmp_path).items():
        cutout = client.cut(source, where=where)
        assert cutout.pixels.shape == (90, 120, 4), name
        assert cutout.pixels.dtype == (np.uint16 if name == "deep array" else np.uint8), name


def test_what_cannot_be_read_is_said_with_its_name(client, tmp_path):
    for wrong, kind, why in [
        (tmp_path / "nothing.jpg", SourceError, "nothing.jpg: No such file"),
        (tmp_path, SourceError, "Is a directory"),
        (io.StringIO("text"), SourceError, "binary mode"),
        (b"", EmptyPhoto, "0 bytes"),
        (b"hello, world", UnknownFormat, "12 bytes"),
        (42, UnknownFormat, "int"),
        (np.zeros((4, 4, 3)), UnknownFormat, "float64"),
        ("http://example.com/me.jpg", UrlRefused, "fetcher"),
    ]:
        with pytest.raises(kind, match=why):
            client.cut(wrong)


def test_a_closed_file_is_a_source_that_cannot_be_read(client):
    file = io.BytesIO(b"x")
    file.close()
    with pytest.raises(SourceError, match="closed"):
        client.cut(file)


def test_a_damaged_pil_image_is_a_broken_photo(client, jpeg):
    with pytest.raises(BrokenPhoto):
        client.cut(Image.open(io.BytesIO(jpeg[: len(jpeg) // 2])))


def test_too_many_bytes_are_refused_before_they_are_read(fake, tmp_path):
    client = Client("fake:8001", connector=fake, limits=Limits(max_bytes=100))
    path = tmp_path / "large.jpg"
    path.write_bytes(bytes(101))
    endless = io.BufferedReader(_Endless())
    for source in (path, endless, bytes(101)):
        with pytest.raises(PhotoTooLarge):
            client.cut(source)
    assert fake.requests == []


class _Endless(io.RawIOBase):
    def readable(self):
        return True

    def readinto(self, buffer):
        buffer[:] = bytes(len(buffer))
        return len(buffer)


def test_the_typed_options_are_the_options(photo):
    assert set(CutOptions.__annotations__) == {field.name for field in dataclasses.fields(Options)}
    hints = get_type_hints(CutOptions)
    for field in dataclasses.fields(Options):
        if isinstance(field.default, str) and not isinstance(hints[field.name], type):
            allowed = getattr(hints[field.name], "__args__", ())
            assert field.default in allowed or str in allowed


@pytest.mark.parametrize(
    ("suffix", "format"),
    [("png", "png"), ("webp", "webp"), ("tif", "tiff"), ("TIFF", "tiff"), ("avif", "avif")],
)
def test_a_cut_out_is_saved_as_its_suffix_says(client, photo, tmp_path, suffix, format):
    path = client.cut(photo).save(tmp_path / f"me.{suffix}")
    saved = decode(path.read_bytes())
    assert saved.format == format
    assert saved.alpha is not None


def test_what_the_server_encoded_is_handed_on_as_it_came(client, photo):
    cutout = client.cut(photo, where="server")
    assert cutout.png() is cutout.made.data
    assert cutout.encode() is cutout.made.data
    webp = client.cut(photo, where="server", format="webp")
    assert webp.encode("webp") is webp.made.data
    assert webp.png().startswith(b"\x89PNG")


def test_an_array_may_be_used_again_before_the_cut_out_is_encoded(client, photo):
    mine = photo.copy()
    cutout = client.cut(mine)
    mine[:] = 0
    assert cutout.png() == client.cut(photo).png()


def test_a_broken_photo_is_told_even_when_no_server_answers(fake, jpeg):
    fake.fail(*[ServerUnavailable("gone")] * 100)
    with pytest.raises(BrokenPhoto):
        Client("fake:8001", connector=fake).cut(jpeg[:300])


def test_a_finished_picture_may_weigh_more_than_a_photo():
    png = io.BytesIO()
    Image.fromarray(np.zeros((8, 8, 4), np.uint8)).save(png, "png")
    heavy = Encoded(png.getvalue() + bytes(Limits().max_bytes), None, 0.0, True)
    assert heavy.decoded().pixels.shape == (8, 8, 4)
    assert heavy.format == "png"


def test_jpeg_needs_a_colour_and_says_so(client, photo, tmp_path):
    cutout = client.cut(photo)
    with pytest.raises(OptionError, match="transparency"):
        cutout.save(tmp_path / "me.jpg")
    assert not (tmp_path / "me.jpg").exists()
    assert decode(cutout.on("white").save(tmp_path / "me.jpg").read_bytes()).format == "jpeg"


def test_an_unknown_suffix_is_refused_with_the_known_ones(client, photo, tmp_path):
    with pytest.raises(OptionError, match=r"me\.xyz.*\.png"):
        client.cut(photo).save(tmp_path / "me.xyz")


def test_on_a_colour_is_straight_alpha_composition_and_opaque(client, photo):
    cutout = client.cut(photo)
    on_red = cutout.on((255, 0, 0))
    alpha = cutout.pixels[..., 3:] / 255
    expected = cutout.pixels[..., :3] * alpha + np.array([255, 0, 0]) * (1 - alpha)
    assert on_red.pixels.shape == (90, 120, 3)
    assert np.abs(on_red.pixels - expected).max() <= 0.5 + 1e-3
    assert np.array_equal(on_red.matte, cutout.matte)


@pytest.mark.parametrize("background", ["no colour", "blur", b"an image"])
def test_on_takes_colours_only(client, photo, background):
    with pytest.raises(OptionError):
        client.cut(photo).on(background)


def test_a_matte_cannot_be_put_on_a_colour(client, photo):
    with pytest.raises(OptionError, match="not transparent"):
        client.cut(photo, output="matte").on("white")


def test_a_cut_out_shows_itself_as_png_and_pil_image(client, photo):
    for where in ("client", "server"):
        cutout = client.cut(photo, where=where)
        assert np.array_equal(np.asarray(cutout.image), cutout.pixels)
        assert np.array_equal(np.asarray(Image.open(io.BytesIO(cutout.png()))), cutout.pixels)
        assert cutout._repr_png_() == cutout.png()
        assert cutout.encode() == cutout.png()


def test_a_deep_cut_out_has_a_picture_of_8_bits_to_show(client, photo):
    deep = client.cut(photo.astype(np.uint16) * 257)
    assert deep.pixels.dtype == np.uint16
    assert np.array_equal(np.asarray(deep.image), np.rint(deep.pixels / 257).astype(np.uint8))


def test_a_picture_without_its_matte_says_how_to_get_it(client, photo):
    cutout = client.cut(photo, where="server", background="white", format="png")
    assert cutout.pixels.shape == (90, 120, 3)
    with pytest.raises(OptionError, match="where='client'"):
        _ = cutout.matte


def test_outcomes_and_cut_outs_travel_by_pickle(client, photo):
    (outcome,) = client.cut_many([photo])
    back = pickle.loads(pickle.dumps(outcome))
    assert np.array_equal(back.cutout.pixels, outcome.cutout.pixels)
    assert back.cutout.timings == outcome.cutout.timings


def test_the_timings_add_up(client, photo):
    timings = client.cut(photo).timings
    parts = [timings.load_ms, timings.shrink_ms, timings.ask_ms, timings.finish_ms]
    assert all(part >= 0 for part in parts)
    assert sum(parts) <= timings.total_ms
    assert timings.tries == 1
    assert timings.server == "fake:8001"


def test_a_file_appears_whole_or_not_at_all(tmp_path, monkeypatch):
    target = tmp_path / "me.png"
    write_atomically(target, b"first", overwrite=False)
    with pytest.raises(FileExistsError):
        write_atomically(target, b"second", overwrite=False)
    assert target.read_bytes() == b"first"
    write_atomically(target, b"second", overwrite=True)
    assert target.read_bytes() == b"second"

    def full(self, data):
        with self.open("wb") as file:
            file.write(data[:2])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match="No space"):
        write_atomically(target, b"third", overwrite=True)
    assert [path.name for path in tmp_path.iterdir()] == ["me.png"]
    assert target.read_bytes() == b"second"


def test_a_written_file_has_the_usual_permissions(tmp_path):
    (tmp_path / "usual").touch()
    write_atomically(tmp_path / "me.png", b"x", overwrite=False)
    assert stat.S_IMODE((tmp_path / "me.png").stat().st_mode) == stat.S_IMODE(
        (tmp_path / "usual").stat().st_mode
    )


def test_without_hard_links_nothing_is_overwritten_either(tmp_path, monkeypatch):
    def no_links(*_):
        raise PermissionError("no hard links here")

    monkeypatch.setattr("os.link", no_links)
    write_atomically(tmp_path / "me.png", b"first", overwrite=False)
    with pytest.raises(FileExistsError):
        write_atomically(tmp_path / "me.png", b"second", overwrite=False)


def test_parts_of_dead_processes_are_removed_and_others_stay(tmp_path):
    import os

    names = {
        ".bgclient-999999999-a.png.part": False,
        f".bgclient-{os.getpid()}-a.png.part": True,
        "a.part": True,
    }
    for name in names:
        (tmp_path / name).touch()
    remove_parts(tmp_path)
    assert {name: (tmp_path / name).exists() for name in names} == names


def test_a_fake_server_takes_a_network_of_one_s_own(photo):
    server = FakeServer(network=lambda image: (image[0] > 127).astype(np.float32))
    cutout = Client("any:1", connector=server).cut(photo, edges="none", clean=False)
    right, left = cutout.matte[:, 80:], cutout.matte[:, :40]
    assert right.mean() > 250
    assert left.mean() < 5
