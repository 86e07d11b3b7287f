"""What the serving models count."""

from typing import ClassVar

import pytest

from bgimage.errors import BrokenPhoto, NoPersonFound
from bgserver.meters import COUNTERS, Meters


class Family:
    """As ``triton_python_backend_utils.MetricFamily``, with the numbers kept in ``counts``."""

    COUNTER = "counter"
    counts: ClassVar[dict] = {}

    def __init__(self, *, name, description, kind):
        assert (kind, bool(description)) == ("counter", True)
        self.name = name

    def Metric(self, *, labels):  # noqa: N802 (Triton's name)
        return Metric(self.name, tuple(sorted(labels.items())))


class Metric:
    def __init__(self, *key):
        self.key = key

    def increment(self, amount):
        Family.counts[self.key] = Family.counts.get(self.key, 0) + amount


@pytest.fixture
def counts(monkeypatch):
    monkeypatch.setattr(Family, "counts", {})
    return lambda name, **labels: Family.counts.get((name, tuple(sorted(labels.items()))))


def test_photos_are_counted_with_their_megapixels(counts):
    meters = Meters(Family, "preprocess")
    meters.photo((2000, 3000))
    meters.photo((1000, 500))
    assert counts("bgclient_photos_total", model="preprocess") == 2
    assert counts("bgclient_megapixels_total", model="preprocess") == pytest.approx(6.5)


def test_refusals_are_told_apart_by_code_and_by_nothing_else(counts):
    Meters(Family, "preprocess").refusal(BrokenPhoto("me.jpg ends after 12 bytes"))
    assert Family.counts == {
        ("bgclient_refusals_total", (("code", "broken_photo"), ("model", "preprocess"))): 1
    }


def test_a_stage_counts_its_seconds_unless_it_fails(counts):
    meters = Meters(Family, "postprocess")
    with meters.stage("encode"):
        pass
    with pytest.raises(BrokenPhoto), meters.stage("decode"):
        raise BrokenPhoto("cut short")
    assert counts("bgclient_stage_seconds_total", model="postprocess", stage="encode") > 0
    assert counts("bgclient_stage_seconds_total", model="postprocess", stage="decode") is None


def test_cut_outs_are_counted_by_whether_somebody_was_found(counts):
    meters = Meters(Family, "postprocess")
    meters.cutout(found=True)
    meters.cutout(found=False)
    meters.cutout(found=False)
    assert counts("bgclient_cutouts_total", model="postprocess", person="found") == 1
    assert counts("bgclient_cutouts_total", model="postprocess", person="none") == 2


def test_a_photo_refused_for_showing_nobody_is_one_without_a_person(counts):
    Meters(Family, "postprocess").refusal(NoPersonFound("nobody was found"))
    assert counts("bgclient_refusals_total", model="postprocess", code=NoPersonFound.code) == 1
    assert counts("bgclient_cutouts_total", model="postprocess", person="none") == 1


def test_every_counter_says_what_it_is(counts):
    assert all(name.endswith("_total") and text[0].isupper() for name, text in COUNTERS.items())
