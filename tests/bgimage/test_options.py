"""Options: what is accepted, what is refused and how, and the way over the wire."""

import contextlib
import dataclasses
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bgimage.errors import OptionError
from bgimage.options import Options
from bgimage.strokes import Stroke

VALID = [
    {},
    {"output": "matte"},
    {"people": (10, 20)},
    {"people": (10, 20, 30, 40)},
    {"background": "#ff8800"},
    {"background": (1, 2, 3)},
    {"background": "blur:7.5"},
    {"background": b"\x89PNG and so on"},
    {"keep": ((10, 20), (1, 2, 30.5, 40))},
    {"remove": (Stroke(((1, 2), (3.5, 4)), 5),)},
    {"crop": True, "margin": "5% 10px"},
    {"canvas": (100, 200), "scale": 0.5, "position": (0.5, 1.0)},
    {"format": "webp", "quality": 80, "max_pixels": 250_000},
    {"require_person": True, "at_least": 0.7, "drop_gps": True},
]


@pytest.mark.parametrize("values", VALID)
def test_options_come_back_from_json(values):
    options = Options(**values)
    text = options.to_json()
    assert Options.from_json(text) == options
    assert set(json.loads(text)) == set(values)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"output": "mask"}, "output='mask': use one of cutout, matte, inverse"),
        ({"people": "first"}, "people='first'"),
        ({"people": (1, 2, 3)}, "2 or 4 whole numbers"),
        ({"people": (9, 2, 3, 8)}, "empty box"),
        ({"edges": "fine"}, "edges='fine': use one of none, fast"),
        ({"background": "no colour"}, "background='no colour'"),
        ({"background": (1, 2, 300)}, "each number 0..255"),
        ({"background": "blur:0"}, "radius"),
        ({"format": "bmp"}, "format='bmp'"),
        ({"quality": 0}, "quality=0: use a number from 1 to 100"),
        ({"quality": True}, "quality=True"),
        ({"margin": "5em"}, "margin='5em'"),
        ({"margin": "1 2 3"}, "1, 2 or 4 lengths"),
        ({"margin": "51%"}, "at most 50%"),
        ({"canvas": (0, 5)}, "canvas=(0, 5)"),
        ({"canvas": (20_000, 20_000)}, "64 megapixels"),
        ({"scale": 2}, "scale=2"),
        ({"position": "left"}, "position='left'"),
        ({"position": (0, 2)}, "position=(0, 2)"),
        ({"shadow": -1}, "shadow=-1"),
        ({"crop": 1}, "crop=1: use true or false"),
        ({"colour": "red"}, "unknown option colour; there are output, people"),
    ],
)
def test_what_is_wrong_is_named_with_its_value_and_a_mend(values, words):
    with pytest.raises(OptionError) as caught:
        Options.of(**values)
    assert words in str(caught.value)


@pytest.mark.parametrize("text", ["[1]", "{", '"x"', '{"background": {"base64": "%%"}}'])
def test_broken_json_is_an_option_error(text):
    with pytest.raises(OptionError):
        Options.from_json(text)


@pytest.mark.parametrize(
    "flood", ['{"x":[%s0]}' % ("{}," * 30_000), '{"keep":[%s[1,2]]}' % ("[1,2]," * 20_000)]
)
def test_json_of_values_without_end_is_refused_before_it_is_read(flood, monkeypatch):
    monkeypatch.setattr("json.loads", lambda _: pytest.fail("it was read"))
    for text in (flood, flood.encode()):
        with pytest.raises(OptionError, match="more than 20000 values"):
            Options.from_json(text)


def test_as_many_points_as_are_allowed_fit_into_json():
    points = [[n, n] for n in range(1000)]
    options = Options.of(keep=points, remove=points)
    assert Options.from_json(options.to_json()) == options


@given(st.text() | st.binary())
def test_any_text_is_options_or_an_option_error(text):
    with contextlib.suppress(OptionError):
        assert Options.from_json(text).output in ("cutout", "matte", "inverse")


@given(st.dictionaries(st.sampled_from([f.name for f in dataclasses.fields(Options)]), st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4), max_leaves=5,
)))  # fmt: skip
def test_any_json_object_is_options_or_an_option_error(values):
    try:
        options = Options.from_json(json.dumps(values))
    except OptionError:
        return
    assert Options.from_json(options.to_json()) == options


def test_colours_are_understood_as_css_writes_them():
    assert Options(background="#f80").background == (255, 136, 0, 255)
    assert Options(background="#ff880080").background == (255, 136, 0, 128)
    assert Options(background="white").background == (255, 255, 255, 255)
    assert Options(background="blur:3").blur_radius == 3
    assert Options(background="blur").blur_radius == 0
    assert Options().blur_radius is None


def test_margins_follow_css_and_the_box():
    assert Options(margin="10%").margins((200, 100)) == (20, 10, 20, 10)
    assert Options(margin="1 2 3 4").margins((200, 100)) == (1, 2, 3, 4)
    assert Options(margin="5px 10%").margins((200, 100)) == (5, 10, 5, 10)
