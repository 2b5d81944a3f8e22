"""Threads that share out pieces of work."""

import threading

import pytest
import torch

from nonet.ragcache.engine.team import Team, team


@pytest.mark.parametrize("size", [1, 2, 5])
def test_every_piece_is_done_once(size):
    done, lock = [], threading.Lock()

    def piece(number, member):
        with lock:
            done.append(number)
        assert 0 <= member < size and torch.is_inference_mode_enabled()

    Team(size).run(100, piece)
    assert sorted(done) == list(range(100))


@pytest.mark.parametrize("size", [1, 3])
def test_what_a_piece_raises_reaches_the_caller_and_the_team_goes_on(size):
    crew = Team(size)

    def fails(number, member):
        if number == 7:
            raise ValueError("piece 7")

    with pytest.raises(ValueError, match="piece 7"):
        crew.run(20, fails)
    test_every_piece_is_done_once(size)
    crew.run(3, lambda number, member: None)


def test_members_compute_with_one_thread_and_others_keep_theirs():
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        found, later = [], []
        ready = threading.Barrier(3)

        def piece(number, member):
            ready.wait(10)
            found.append(torch.get_num_threads())
            torch.ones(64, 64).matmul(torch.ones(64, 64))
            found.append(torch.get_num_threads())

        team().run(3, piece)
        stranger = threading.Thread(target=lambda: later.append(torch.get_num_threads()))
        stranger.start()
        stranger.join()
        assert found == [1] * 6
        assert torch.get_num_threads() == 3 and later == [3]
    finally:
        torch.set_num_threads(before)
