"""Everything that may be a photo, and everything that may be done with a cut-out."""

import asyncio
import dataclasses
import importlib
import io
import os
import pickle
import re
import stat
import struct
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import get_type_hints

import numpy as np
import pytest
from PIL import Image

from bgclient import _files
from bgclient._files import remove_parts, write_atomically
from bgclient.client import AsyncClient, Client
from bgclient.errors import (
    BrokenPhoto,
    EmptyPhoto,
    InternalError,
    OptionError,
    PhotoTooLarge,
    ServerUnavailable,
    SourceError,
    TargetError,
    UnknownFormat,
    UrlRefused,
)
from bgclient.options import CutOptions
from bgclient.results import Encoded
from bgclient.testing import FakeServer
from bgimage.codec import Limits, decode
from bgimage.colour import of_code_points
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

    def full(file, data):
        file.write(data[:2])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(_files, "write_whole", full)
    with pytest.raises(TargetError, match=r"me\.png: No space") as raised:
        write_atomically(target, b"third", overwrite=True)
    assert raised.value.hopeless
    assert [path.name for path in tmp_path.iterdir()] == ["me.png"]
    assert target.read_bytes() == b"second"


def test_errors_name_the_target_and_never_the_temporary_file(tmp_path, client, photo):
    cutout = client.cut(photo)
    (tmp_path / "loop").symlink_to("loop")
    for target in ("missing/me.png", "loop/me.png"):
        with pytest.raises(TargetError, match=target.rsplit("/", 1)[-1]) as raised:
            cutout.save(tmp_path / target)
        assert ".part" not in str(raised.value)


@pytest.mark.skipif(os.name == "nt", reason="no FIFOs, no permissions there")
def test_links_pipes_and_devices_are_written_through(tmp_path):
    real, link, pipe = tmp_path / "real.png", tmp_path / "link.png", tmp_path / "pipe.png"
    real.write_bytes(b"old")
    real.chmod(0o640)
    link.symlink_to("real.png")
    write_atomically(link, b"new", overwrite=True)
    assert link.is_symlink()
    assert real.read_bytes() == b"new"
    assert stat.S_IMODE(real.stat().st_mode) == 0o640
    (tmp_path / "later.png").symlink_to("made.png")
    write_atomically(tmp_path / "later.png", b"new", overwrite=True)
    assert (tmp_path / "made.png").read_bytes() == b"new"
    os.mkfifo(pipe)
    data = bytes(300_000)  # more than a pipe holds
    with ThreadPoolExecutor(1) as pool:
        read = pool.submit(pipe.read_bytes)
        write_atomically(pipe, data, overwrite=True)
        assert read.result() == data
    assert stat.S_ISFIFO(pipe.stat().st_mode)
    write_atomically(Path("/dev/null"), b"gone", overwrite=True)
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)


def test_a_name_of_255_bytes_can_be_written(tmp_path):
    target = tmp_path / ("ä" * 125 + ".png")
    write_atomically(target, b"x", overwrite=True)
    assert target.read_bytes() == b"x"


def test_threads_may_write_the_same_file(tmp_path):
    target = tmp_path / "me.png"

    def write(letter):
        for _ in range(50):
            write_atomically(target, letter * 100_000, overwrite=True)
            seen = target.read_bytes()
            assert len(seen) == 100_000
            assert len(set(seen)) == 1

    with ThreadPoolExecutor(3) as pool:
        list(pool.map(write, (b"a", b"b", b"c")))
    assert [path.name for path in tmp_path.iterdir()] == ["me.png"]


def test_a_file_without_a_buffer_is_written_whole(tmp_path):
    class Slow(io.RawIOBase):
        got = b""

        def write(self, data):
            self.got += bytes(data[:1000])
            return min(1000, len(data))

    slow = Slow()
    _files.write_whole(slow, b"x" * 2500)
    assert slow.got == b"x" * 2500


def test_a_file_object_that_gives_a_part_at_a_time_is_read_whole(client, jpeg):
    class Parts(io.RawIOBase):
        def __init__(self):
            self.left = jpeg

        def readable(self):
            return True

        def readinto(self, out):
            part, self.left = self.left[: min(len(out), 1000)], self.left[1000:]
            out[: len(part)] = part
            return len(part)

    assert client.cut(Parts()).size_hw == client.cut(jpeg).size_hw


@pytest.mark.skipif(os.name == "nt", reason="no FIFOs there")
def test_a_pipe_by_its_path_is_refused_and_never_waited_for(client, tmp_path):
    os.mkfifo(tmp_path / "me.jpg")
    with pytest.raises(SourceError, match="pipe"):
        client.cut(tmp_path / "me.jpg")


def test_a_cut_out_says_what_it_is(client, photo):
    cutout = client.cut(photo)
    assert re.fullmatch(
        r"<Cutout 120 x 90, people in \(\d+, \d+, \d+, \d+\), expected IoU [01]\.\d\d, \d+ ms>", repr(cutout)
    )
    nobody = Client(
        "any:1", connector=FakeServer(network=lambda image: np.zeros(image.shape[1:], np.float32))
    )
    assert "no people found" in str(nobody.cut(photo))


def test_a_colour_laid_under_is_the_same_as_a_background(client):
    profile = of_code_points(12, 13)
    wide = Image.new("RGB", (40, 30), (10, 20, 30))
    out = io.BytesIO()
    wide.save(out, "PNG", icc_profile=profile)
    under = client.cut(out.getvalue()).on("#3366cc").pixels
    np.testing.assert_allclose(
        under.astype(int), client.cut(out.getvalue(), background="#3366cc").pixels.astype(int), atol=1
    )


@pytest.mark.parametrize("twin", [Client, AsyncClient])
def test_whatever_is_raised_for_one_photo_is_that_photos_error(twin, photo, monkeypatch):
    def broken(photo, *rest, **named):
        if photo.size_hw == (7, 7):
            raise struct.error("'I' format requires 0 <= number <= 4294967295")
        return made(photo, *rest, **named)

    finish_module = importlib.import_module("bgimage.finish")
    made = finish_module.finish
    monkeypatch.setattr(finish_module, "finish", broken)
    photos = [photo, np.zeros((7, 7, 3), np.uint8), photo]
    client = twin("fake:8001", connector=FakeServer())

    async def gathered():
        return [outcome async for outcome in client.cut_many(photos)]

    outcomes = asyncio.run(gathered()) if twin is AsyncClient else list(client.cut_many(photos))
    assert [outcome.ok for outcome in outcomes] == [True, False, True]
    assert isinstance(outcomes[1].error, InternalError)
    assert "report it" in str(outcomes[1].error)


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


def test_temporary_files_are_removed_once_nobody_can_be_writing_them(tmp_path):
    here, dead, rest = _files._here(), 2**22 + 1, "0123456789abcdef"
    names = {
        f".bgclient-{here}-{dead}-{rest}.part": False,
        f".bgclient-{here}-{os.getpid()}-{rest}.part": True,
        f".bgclient-00000000-{dead}-{rest}.part": True,  # of another machine or container
        f".bgclient-00000001-{dead}-{rest}.part": False,  # likewise, an hour ago
        "a.part": True,
    }
    for name in names:
        (tmp_path / name).touch()
    for name in (f".bgclient-00000001-{dead}-{rest}.part", "a.part"):
        os.utime(tmp_path / name, (1, 1))
    remove_parts(tmp_path)
    assert {name: (tmp_path / name).exists() for name in names} == names


def test_a_fake_server_takes_a_network_of_one_s_own(photo):
    server = FakeServer(network=lambda image: (image[0] > 127).astype(np.float32))
    cutout = Client("any:1", connector=server).cut(photo, edges="none", clean=False)
    right, left = cutout.matte[:, 80:], cutout.matte[:, :40]
    assert right.mean() > 250
    assert left.mean() < 5
