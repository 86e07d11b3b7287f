"""A network's answers to the last photos: kept for each photo by itself, and never an error."""

import numpy as np
import pytest

from bgserver.answers import Answers

ROW = 8
"""Bytes of one answer of ``Network``."""


class Network:
    """Doubles or trebles numbers, fails on negative ones, and remembers what it was asked."""

    def __init__(self):
        self.asked = []

    def __call__(self, feeds, wanted):
        (numbers,) = feeds.values()
        self.asked.append(numbers.ravel().tolist())
        if (numbers < 0).any():
            raise ValueError("negative")
        return [numbers * {"alpha": 2, "inverse": 3}[name] for name in wanted]


@pytest.fixture
def network():
    return Network()


def ask(answers, *numbers, wanted=("alpha",), name="image", dtype=np.int64):
    feeds = {name: np.array(numbers, dtype).reshape(-1, 1)}
    return [answer.ravel().tolist() for answer in answers(feeds, list(wanted))]


def test_a_photo_that_comes_again_costs_no_network(network):
    hits = []
    answers = Answers(network, 10 * ROW, hits.append)
    assert ask(answers, 1, 2) == ask(answers, 1, 2) == [[2, 4]]
    assert ask(answers, 3, 2) == [[6, 4]]
    assert network.asked == [[1, 2], [3]]
    assert hits == [2, 1]


def test_the_first_batch_of_a_size_runs_whole_as_it_warms_the_network_up(network):
    answers = Answers(network, 10 * ROW)
    for _ in range(2):
        assert ask(answers, 5) == [[10]]
        assert ask(answers, 5, 5, 5) == [[10, 10, 10]]
    assert network.asked == [[5], [5, 5, 5]]


def test_other_outputs_names_or_types_are_another_question(network):
    answers = Answers(network, 100 * ROW)
    assert ask(answers, 1) == [[2]]
    assert ask(answers, 1, wanted=("inverse", "alpha")) == [[3], [2]]
    assert ask(answers, 1, name="picture") == [[2]]
    assert ask(answers, 1, dtype=np.uint64) == [[2]]
    assert len(network.asked) == 4


def test_what_was_asked_for_least_recently_goes_first(network):
    answers = Answers(network, 2 * ROW)
    for number in (1, 2, 1, 3, 1, 2):
        ask(answers, number)
    assert network.asked == [[1], [2], [3], [2]]


def test_a_batch_with_more_than_is_kept_is_answered_whole(network):
    assert ask(Answers(network, 2 * ROW), 1, 2, 3, 4, 1) == [[2, 4, 6, 8, 2]]


def test_an_error_is_not_kept(network):
    answers = Answers(network, 10 * ROW)
    for _ in range(2):
        with pytest.raises(ValueError, match="negative"):
            ask(answers, 1, -1)
    assert ask(answers, 1) == [[2]]
    assert network.asked == [[1, -1], [1, -1], [1]]


def test_nobody_can_change_what_is_kept(network):
    answers = Answers(network, 10 * ROW)
    for _ in range(2):
        (answer,) = answers({"image": np.array([[1]])}, ["alpha"])
        assert answer.tolist() == [[2]]
        answer[:] = 7
