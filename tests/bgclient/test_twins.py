"""Client and AsyncClient are one client: same names, same arguments, same documentation, same behaviour."""

import asyncio
import gc
import inspect
import json
import re
import threading
import time
from concurrent.futures import Future
from contextlib import suppress

import cv2
import numpy as np
import pytest

import bgclient
from bgclient import _retry
from bgclient.client import AsyncClient, Client
from bgclient.errors import (
    BrokenPhoto,
    CallCancelled,
    DeadlineExceeded,
    Doubtful,
    ModelMissing,
    NetworkChanged,
    NoPersonFound,
    OptionError,
    PhotoError,
    ServerBusy,
    ServerFault,
    ServerUnavailable,
)
from bgclient.testing import FakeServer
from bgimage.codec import Photo

METHODS = ["cut", "cut_many", "info", "ready", "contract", "close"]


def test_both_clients_have_the_same_public_names():
    assert (
        {n for n in dir(Client) if n[0] != "_"}
        == {n for n in dir(AsyncClient) if n[0] != "_"}
        == {*METHODS, "starts_server"}
    )


@pytest.mark.parametrize("name", ["__init__", *METHODS])
def test_both_clients_take_the_same_arguments(name):
    ours, theirs = (inspect.signature(getattr(kind, name)) for kind in (Client, AsyncClient))
    assert ours.parameters == theirs.parameters


@pytest.mark.parametrize("name", METHODS)
def test_both_clients_are_documented_by_the_same_words(name):
    assert getattr(Client, name).__doc__ == getattr(AsyncClient, name).__doc__
    assert len(getattr(Client, name).__doc__) > 30


@pytest.mark.parametrize(("sync", "twin"), [("cut", "acut"), ("cut_many", "acut_many")])
def test_the_functions_take_the_arguments_of_the_methods_and_are_documented_by_the_same_words(sync, twin):
    method = getattr(Client, sync)
    expected = [p for name, p in inspect.signature(method).parameters.items() if name != "self"]
    for function in (getattr(bgclient, sync), getattr(bgclient, twin)):
        assert list(inspect.signature(function).parameters.values()) == expected
        assert function.__doc__ == method.__doc__


def test_every_setting_of_a_client_is_documented():
    for name in inspect.signature(Client).parameters:
        assert f"\n    {name}: " in inspect.getdoc(Client)


def test_a_cut_out_has_the_photo_s_size_straight_alpha_and_the_people_s_box(twin, fake, photo):
    cutout = twin.do(twin.client(connector=fake).cut(photo))
    assert cutout.pixels.shape == (90, 120, 4)
    opaque = cutout.matte == 255
    assert opaque.any()
    assert (cutout.matte == 0).any()
    assert (cutout.pixels[opaque, :3] == photo[opaque]).all()
    left, top, right, bottom = cutout.box
    assert 0 < left < right < 120
    assert 0 < top < bottom < 90
    assert 0.3 < cutout.expected_iou < 0.9  # a wide soft rim


def test_both_places_of_finishing_give_the_same_pixels(twin, fake, photo, jpeg):
    client = twin.client(connector=fake)
    for source in (photo, jpeg):
        for options in ({}, {"output": "matte"}, {"background": "white"}, {"crop": True, "margin": "5px"}):
            here = twin.do(client.cut(source, format="png", **options))
            there = twin.do(client.cut(source, where="server", format="png", **options))
            assert np.array_equal(here.pixels, there.pixels)
            assert here.box == there.box
            assert here.expected_iou == pytest.approx(there.expected_iou, abs=1e-6)


def closely(doubt_when_small):
    """A network that is sure of a bright figure once it is large in the picture."""

    def network(image):
        bright = image[0] > 140
        return bright * np.float32(1.0 if bright.mean() > 0.2 else doubt_when_small)

    return FakeServer(network)


@pytest.fixture
def small_figure():
    photo = np.zeros((400, 600, 3), np.uint8)
    photo[150:290, 200:280] = 255
    return photo


def test_a_doubtful_cut_out_is_looked_at_again_and_the_surer_look_is_kept(twin, small_figure):
    fake = closely(0.6)
    client = twin.client(connector=fake)
    plain = twin.do(client.cut(small_figure))
    assert (plain.looks, len(fake.requests)) == (1, 1)
    assert plain.expected_iou < 0.8
    sure = twin.do(client.cut(small_figure, at_least=0.8))
    assert (sure.looks, len(fake.requests)) == (2, 3)
    assert sure.expected_iou >= 0.8
    left, top, right, bottom = sure.box
    assert abs(left - 200) < 8 > abs(right - 280)
    assert abs(top - 150) < 8 > abs(bottom - 290)
    enough = twin.do(client.cut(small_figure, at_least=plain.expected_iou))
    assert (enough.looks, len(fake.requests)) == (1, 4)
    with pytest.raises(Doubtful):
        twin.do(client.cut(small_figure, at_least=0.8, where="server"))


def test_a_cut_out_that_stays_doubtful_is_an_error_with_the_better_of_both(twin, small_figure):
    fake = closely(0.6)
    fake.network = lambda image: (image[0] > 140) * np.float32(0.6 if (image[0] > 140).mean() > 0.2 else 0.7)
    client = twin.client(connector=fake)
    first = twin.do(client.cut(small_figure)).expected_iou
    with pytest.raises(Doubtful, match=f"expected IoU {first:.2f}, below"):
        twin.do(client.cut(small_figure, at_least=0.9))
    assert len(fake.requests) == 3
    with pytest.raises(Doubtful, match=r"expected IoU 0\.00"):
        twin.do(client.cut(np.zeros((90, 120, 3), np.uint8), at_least=0.1))
    assert len(fake.requests) == 4  # nobody: there is nothing to look at


def test_a_retryable_error_is_tried_again_and_another_one_is_not(twin, photo):
    fake = FakeServer()
    client = twin.client(connector=fake)
    fake.fail(ServerBusy("full"), ServerUnavailable("gone"))
    assert twin.do(client.cut(photo)).timings.tries == 3
    fake.fail(ServerFault("broke"))
    with pytest.raises(ServerFault, match="broke"):
        twin.do(client.cut(photo))
    assert len(fake.requests) == 4


@pytest.fixture
def no_photo_stays():
    """Waits for threads to let go of decoded photos; what goes in a circle is not freed meanwhile, and so is seen."""

    def photos():
        return [one for one in gc.get_objects() if type(one) is Photo]

    def check():
        until = time.monotonic() + 10
        while {id(one) for one in photos()} - {id(one) for one in others}:
            assert time.monotonic() < until, "a decoded photo stays"
            time.sleep(0.01)

    gc.collect()
    gc.disable()
    others = photos()  # of fixtures that live longer
    yield check
    gc.enable()


def gone(count):
    """Errors for ``FakeServer.fail``, each an object of its own."""
    return [ServerUnavailable("gone") for _ in range(count)]


def test_errors_that_are_kept_keep_no_photos(twin, jpeg, no_photo_stays):
    fake = FakeServer()
    fake.fail(*gone(3))
    outcomes = twin.many(twin.client(connector=fake, retry=False).cut_many([jpeg] * 3))
    no_photo_stays()
    assert [type(outcome.error) for outcome in outcomes] == [ServerUnavailable] * 3


def test_an_error_leaves_no_photo_behind(twin, jpeg, no_photo_stays):
    fake = FakeServer()
    fake.fail(*gone(1))
    client = twin.client(connector=fake, retry=False)
    with suppress(ServerUnavailable):
        twin.do(client.cut(jpeg))
    no_photo_stays()


def test_a_second_try_leaves_no_photo_behind(twin, jpeg, no_photo_stays):
    fake = FakeServer()
    fake.fail(*gone(1))
    client = twin.client(connector=fake)
    assert twin.do(client.cut(jpeg)).timings.tries == 2
    no_photo_stays()


def test_giving_up_names_the_server_the_time_the_tries_and_the_mend(twin, photo):
    fake = FakeServer(down=["fake:8001"])
    client = twin.client(connector=fake, timeout_s=2.0)  # so long that it ends in a pause, not in a try
    with pytest.raises(ServerUnavailable) as raised:
        twin.do(client.cut(photo))
    assert "no Triton at fake:8001" in str(raised.value)
    assert re.search(r"after \d+\.\d s and \d+ tr(y|ies)", str(raised.value))
    assert '"bgclient serve"' in str(raised.value)


def test_the_deadline_is_of_the_whole_call_and_then_why_it_was_tried_again_is_the_error(twin, photo):
    fake = FakeServer(delay_s=0.3)
    client = twin.client(connector=fake)
    fake.fail(*[ServerBusy("full") for _ in range(50)])
    with pytest.raises(ServerBusy, match="full"):
        twin.do(client.cut(photo, timeout_s=0.8))
    assert 1 <= len(fake.requests) <= 3


def test_a_server_that_is_too_slow_is_a_deadline_with_its_length_in_the_message(twin, photo):
    client = twin.client(connector=FakeServer(delay_s=5.0), timeout_s=0.2)
    with pytest.raises(DeadlineExceeded, match=r"within 0\.2 s"):
        twin.do(client.cut(photo))


def test_a_pause_that_would_pass_the_deadline_is_not_begun(twin, fake, photo):
    client = twin.client(connector=fake, timeout_s=20.0)
    busy = ServerBusy("full")
    busy.retry_after_s = 60.0
    fake.fail(busy)
    with pytest.raises(ServerBusy):
        twin.do(client.cut(photo))
    assert len(fake.requests) == 1


def test_a_server_that_has_never_answered_is_waited_for_less_than_one_that_has(twin, photo, monkeypatch):
    monkeypatch.setattr(_retry, "FIRST_CONTACT_S", 0.5)
    fake = FakeServer(down=["fake:8001"])
    client = twin.client(connector=fake, timeout_s=60.0)
    with pytest.raises(ServerUnavailable):
        twin.do(client.cut(photo))
    fake.down.clear()
    twin.do(client.cut(photo))
    fake.down.add("fake:8001")
    threading.Timer(1.5, fake.down.clear).start()
    assert twin.do(client.cut(photo)).timings.tries > 1


def test_the_contract_is_asked_for_once_per_connection(twin, fake, photo):
    client = twin.client(connector=fake)
    for _ in range(3):
        twin.do(client.cut(photo))
    assert twin.do(client.contract()) == fake.contract
    assert len(fake.queries) == 1


def test_a_server_without_our_models_is_asked_again_only_while_it_is_not_ready(twin, photo):
    fake = FakeServer()
    client = twin.client(connector=fake)
    fake.fail(ModelMissing("unloaded"))
    with pytest.raises(ModelMissing, match="unloaded"):
        twin.do(client.cut(photo))
    fake.ready = False
    fake.fail(ModelMissing("unloaded"))
    assert twin.do(client.cut(photo)).timings.tries == 2
    fake.fail(*[ModelMissing("unloaded") for _ in range(50)])
    with pytest.raises(ServerUnavailable, match=r"unloaded\. It is not ready"):
        twin.do(client.cut(photo, timeout_s=2.0))


def test_a_server_that_was_given_another_network_is_asked_for_its_contract_again(twin, fake, photo):
    from bgimage.contract import Contract

    client = twin.client(connector=fake)
    twin.do(client.cut(photo))
    fake.contract = Contract(size_hw=(64, 96))
    cutout = twin.do(client.cut(photo))
    assert cutout.timings.tries == 2
    assert twin.do(client.contract()).size_hw == (64, 96)


def test_only_what_the_network_sees_is_uploaded(twin, fake):
    from bgimage.codec import decode, encode
    from bgimage.geometry import network_input

    noise = np.random.default_rng(0).integers(0, 255, (300, 400, 3), np.uint8)
    whole = encode(noise, "png")
    cutout = twin.do(twin.client(connector=fake).cut(whole))
    ((_, request),) = fake.requests
    (sent,) = request.inputs
    assert (request.model, sent.name, sent.datatype) == ("fake_network", "image", "UINT8")
    assert sent.data == network_input(decode(whole), fake.contract).tobytes()
    assert cutout.timings.sent_bytes == len(sent.data)
    assert cutout.pixels.shape == (300, 400, 4)


EVIL_CONTRACTS = [
    "[]",
    "[" * 200_000,
    "no json",
    *(
        json.dumps({field: value})
        for field, value in [
            ("size_hw", [64_000, 64_000]),
            ("size_hw", [64]),
            ("size_hw", [-64, 64]),
            ("size_hw", [64.5, 64.0]),
            ("size_hw", "64"),
            ("size_hw", [[64], [64]]),
            ("stride", 0),
            ("stride", 1e9),
            ("mean", [1, 2]),
            ("std", [0.2, 0.2, None]),
            ("std", [0.2, 0.2, float("inf")]),
            ("pad_value", {}),
            ("fit", []),
            ("version", [1]),
            ("input_tensor", 7),
            ("another", 1),
        ]
    ),
]


@pytest.mark.parametrize("text", EVIL_CONTRACTS, ids=range(len(EVIL_CONTRACTS)))
def test_a_contract_that_cannot_be_kept_is_a_fault_of_the_server(photo, text):
    fake = FakeServer()
    fake._config = lambda model: {
        "parameters": {"contract": {"string_value": text}},
        "ensemble_scheduling": {"step": [{"model_name": "net", "input_map": {"image": "image"}}]},
    }
    with pytest.raises(ServerFault, match="install the bgclient that fits"):
        Client("fake:1", connector=fake).cut(photo)


@pytest.mark.parametrize(
    "config",
    [
        None,
        [],
        {"parameters": []},
        {"parameters": {"contract": {"string_value": "{}"}}, "ensemble_scheduling": {"step": [7]}},
        {"parameters": {"contract": {"string_value": "{}"}}, "ensemble_scheduling": {"step": []}},
    ],
)
def test_a_configuration_that_is_not_ours_is_a_missing_model(photo, config):
    fake = FakeServer()
    fake._config = lambda model: config
    with pytest.raises(ModelMissing, match="bgclient serve"):
        Client("fake:1", connector=fake).cut(photo)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_an_alpha_that_is_not_finite_is_a_fault_of_the_server(twin, photo, value):
    fake = FakeServer(network=lambda image: np.full(image.shape[1:], value, np.float32))
    with pytest.raises(ServerFault, match="not finite"):
        twin.do(twin.client(connector=fake).cut(photo))


def test_an_alpha_of_another_shape_and_as_many_bytes_is_not_taken(twin, photo):
    fake = FakeServer(network=lambda image: np.zeros((160, 640), np.float32))
    with pytest.raises(NetworkChanged, match=r"\[1, 1, 160, 640\], its contract said \(320, 320\)"):
        twin.do(twin.client(connector=fake, timeout_s=0.5).cut(photo))


def test_options_are_taken_as_they_are_and_with_changes(twin, fake, photo):
    from bgimage.options import Options

    client = twin.client(connector=fake)
    options = Options.of(output="matte")
    assert twin.do(client.cut(photo, options)).pixels.ndim == 2
    assert twin.do(client.cut(photo, options, output="cutout", background="white")).pixels.shape[2] == 3
    (outcome,) = twin.many(client.cut_many([photo], options))
    assert outcome.cutout.pixels.ndim == 2


def test_outcomes_come_in_order_with_each_photo_s_own_error(twin, fake, photo):
    client = twin.client(connector=fake)
    photos = [photo, b"", photo, "no such file", b"\xff\xd8\xff\xe0 cut short", photo]
    told = []
    outcomes = twin.many(client.cut_many(photos, in_flight=3, on_progress=told.append))
    assert [outcome.index for outcome in outcomes] == list(range(6))
    assert [outcome.ok for outcome in outcomes] == [True, False, True, False, False, True]
    assert [o.error.code for o in outcomes if not o.ok] == [
        "empty_photo",
        "unreadable_source",
        "broken_photo",
    ]
    assert all(outcome.photo is given for outcome, given in zip(outcomes, photos, strict=True))
    with pytest.raises(BrokenPhoto):
        outcomes[4].unwrap()
    assert [(p.done, p.total) for p in told] == [(n, 6) for n in range(1, 7)]
    assert told[-1].failed == 3


def test_a_source_that_raises_loses_no_photo_that_was_taken_before(twin, fake, photo):
    def photos():
        yield from (photo, b"", photo)
        raise OSError("the disk was pulled out")

    kept = []

    async def kept_of(outcomes):
        async for outcome in outcomes:
            kept.append(outcome)  # noqa: PERF401 - also where the loop ends with an error

    def keep():
        outcomes = twin.client(connector=fake).cut_many(photos(), in_flight=8)
        return twin.do(kept_of(outcomes)) if twin.name == "AsyncClient" else kept.extend(outcomes)

    with pytest.raises(OSError, match="pulled out"):
        keep()
    assert [outcome.ok for outcome in kept] == [True, False, True]


def test_an_error_of_no_kind_is_that_photo_s_error(twin, fake, photo):
    class Broken:
        def read(self, size):
            raise RuntimeError("no bytes today")

    outcomes = twin.many(twin.client(connector=fake).cut_many([photo, Broken(), photo]))
    assert [outcome.error and outcome.error.code for outcome in outcomes] == [None, "internal_error", None]
    assert "no bytes today" in str(outcomes[1].error)


def test_many_photos_are_bounded_in_flight_and_taken_only_as_results_are_fetched(twin, photo):
    fake = FakeServer(delay_s=0.02)
    taken = []

    def photos():
        for number in range(12):
            taken.append(number)
            yield photo

    client = twin.client(connector=fake)
    assert len(twin.many(client.cut_many(photos(), in_flight=3))) == 12
    assert fake.most_in_flight <= 3
    assert len(taken) == 12


@pytest.mark.parametrize(
    ("arguments", "error"),
    [({"in_flight": 0}, ValueError), ({"edges": "soft"}, OptionError), ({"nope": 1}, OptionError)],
)
def test_what_would_fail_for_every_photo_is_refused_at_once(twin, fake, photo, arguments, error):
    with pytest.raises(error):
        twin.client(connector=fake).cut_many([photo], **arguments)
    assert fake.requests == []


def test_closing_a_client_cancels_its_calls_in_flight(twin, photo):
    fake = FakeServer(delay_s=30.0)
    client = twin.client(connector=fake)
    result = twin.start(lambda: client.cut(photo))
    _until(lambda: fake.in_flight == 1)
    twin.do(client.close())
    with pytest.raises(CallCancelled):
        result(10)
    assert fake.cancelled == 1


def test_closing_a_client_ends_a_call_that_waits_for_the_network_of_this_process(twin, photo, monkeypatch):
    monkeypatch.delenv("BGCLIENT_URL", raising=False)
    monkeypatch.setattr("bgclient.local.loading", lambda engine: Future())
    client = twin.client(None)
    result = twin.start(lambda: client.cut(photo))
    _until(lambda: client._calls)
    twin.do(client.close())
    with pytest.raises(CallCancelled):
        result(10)


async def test_a_cancelled_task_leaves_no_thread_that_waits_for_the_network_of_this_process(
    photo, monkeypatch
):
    monkeypatch.delenv("BGCLIENT_URL", raising=False)
    monkeypatch.setattr("bgclient.local.loading", lambda engine: Future())
    client = AsyncClient()
    task = asyncio.create_task(client.cut(photo))
    await asyncio.to_thread(_until, lambda: client._calls)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await asyncio.to_thread(_until, lambda: not client._calls)


async def test_a_hundred_calls_of_one_loop_wait_for_the_server_at_a_time(photo):
    fake = FakeServer()
    async with AsyncClient("fake:8001", connector=fake) as client:
        await client.cut(photo)
        fake.delay_s = 60.0
        tasks = [asyncio.create_task(client.cut(photo, timeout_s=120)) for _ in range(100)]
        await asyncio.to_thread(_until, lambda: fake.in_flight == 100, 30.0)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.to_thread(_until, lambda: fake.in_flight == 0)


def test_a_closed_client_opens_again(twin, fake, photo):
    client = twin.client(connector=fake)
    twin.do(client.cut(photo))
    twin.do(client.close())
    assert twin.do(client.cut(photo)).box is not None


def test_nobody_in_the_photo_is_an_empty_matte_or_an_error_where_asked(twin, photo):
    fake = FakeServer(network=lambda image: np.zeros(image.shape[1:], np.float32))
    client = twin.client(connector=fake)
    for where in ("client", "server"):
        cutout = twin.do(client.cut(photo, where=where))
        assert cutout.box is None
        assert not cutout.matte.any()
        with pytest.raises(NoPersonFound):
            twin.do(client.cut(photo, where=where, require_person=True))


def test_info_describes_each_server_and_says_why_one_is_silent(twin):
    fake = FakeServer(down=["two:2"])
    well, silent = twin.do(twin.client("one:1,two:2", connector=fake).info())
    assert (well.ready, well.network, well.contract) == (True, "fake_network", fake.contract)
    assert well.models["matte"] == "READY"
    assert well.error is None
    assert not silent.ready
    assert isinstance(silent.error, ServerUnavailable)


def test_a_client_is_ready_when_one_of_its_servers_is(twin):
    assert twin.do(twin.client("one:1,two:2", connector=FakeServer(down=["one:1"])).ready())
    assert not twin.do(twin.client("one:1", connector=FakeServer(down=["one:1"])).ready())


def test_another_network_of_the_server_has_its_own_ensembles(twin, fake, photo):
    client = twin.client(connector=fake, model="fine")
    twin.do(client.cut(photo))
    twin.do(client.cut(photo, where="server"))
    assert [query.fields["name"] for _, query in fake.queries if query.fields] == ["matte_fine"]
    assert [request.model for _, request in fake.requests] == ["fake_network", "cutout_fine"]


@pytest.mark.parametrize("where", ["here", "", None])
def test_a_place_of_finishing_that_does_not_exist_is_refused(twin, fake, photo, where):
    with pytest.raises(ValueError, match="where="):
        twin.do(twin.client(connector=fake).cut(photo, where=where))


@pytest.mark.parametrize(
    ("size_hw", "options", "place"),
    [
        ((600, 800), {}, "server"),
        ((800, 1000), {}, "client"),
        ((800, 1000), {"format": "webp"}, "server"),
        ((800, 1000), {"background": "white"}, "server"),
        ((1500, 2000), {"format": "webp"}, "server"),
        ((3000, 4000), {"format": "webp"}, "client"),
        ((3000, 4000), {"format": "webp", "max_pixels": 1_000_000}, "server"),
        ((600, 800), {"at_least": 0.1}, "client"),
    ],
)
def test_on_request_the_place_of_finishing_is_the_one_with_fewer_bytes_on_the_line(
    twin, fake, size_hw, options, place
):
    grey = cv2.imencode(".jpg", np.full((*size_hw, 3), 120, np.uint8))[1].tobytes()
    twin.do(twin.client(connector=fake).cut(grey, where="auto", **options))
    (_, request), *_ = fake.requests
    assert request.model == {"client": "fake_network", "server": "cutout"}[place]


def test_pixels_count_as_the_png_that_a_server_would_be_sent(twin, fake):
    client = twin.client(connector=fake)
    for side in (300, 500):
        twin.do(client.cut(np.full((side, side, 3), 120, np.uint8), where="auto"))
    assert [request.model for _, request in fake.requests] == ["cutout", "fake_network"]


def test_a_broken_photo_is_an_error_before_the_shorter_way_is_asked(twin, fake):
    with pytest.raises(PhotoError):
        twin.do(twin.client(connector=fake).cut(b"no photo at all", where="auto"))
    assert not fake.requests


@pytest.mark.parametrize("timeout_s", [0, -1, float("nan"), float("inf")])
def test_a_timeout_that_is_none_is_refused(twin, fake, photo, timeout_s):
    with pytest.raises(ValueError, match="timeout_s"):
        twin.client(connector=fake, timeout_s=timeout_s)
    with pytest.raises(ValueError, match="timeout_s"):
        twin.do(twin.client(connector=fake).cut(photo, timeout_s=timeout_s))


def test_leaving_a_sync_loop_early_cancels_what_is_in_flight(photo):
    fake = FakeServer()
    client = Client("fake:8001", connector=fake)
    outcomes = client.cut_many([photo] * 20, in_flight=4)
    next(outcomes)
    fake.delay_s = 30.0
    next(outcomes)
    outcomes.close()
    assert fake.in_flight == 0
    assert len(fake.requests) < 20


async def test_leaving_an_async_loop_early_cancels_what_is_in_flight(photo):
    fake = FakeServer()
    async with AsyncClient("fake:8001", connector=fake) as client:
        outcomes = client.cut_many([photo] * 20, in_flight=4)
        await anext(outcomes)
        fake.delay_s = 30.0
        await anext(outcomes)
        await outcomes.aclose()
    deadline = time.monotonic() + 10  # a cancelled call's thread ends a moment later
    while fake.in_flight and time.monotonic() < deadline:
        await asyncio.sleep(0.01)
    assert fake.in_flight == 0
    assert len(fake.requests) < 20


def test_an_async_client_works_in_one_loop_after_another(fake, photo):
    client = AsyncClient("fake:8001", connector=fake)
    boxes = [asyncio.run(client.cut(photo)).box for _ in range(3)]
    assert boxes[0] == boxes[1] == boxes[2] is not None


def test_many_threads_share_one_client(photo):
    fake = FakeServer(delay_s=0.01)
    client = Client("fake:8001", connector=fake)
    failures = []

    def work():
        try:
            for _ in range(5):
                assert client.cut(photo).box is not None
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert len(fake.requests) == 40
    assert client._calls == set()


def _until(condition, seconds=10.0):
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.005)
