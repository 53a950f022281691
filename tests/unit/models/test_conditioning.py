"""What a clip is generated from: picked, cut, dropped, and turned into one vector per frame."""

from __future__ import annotations

import math

import torch

from cineray.models import Conditioning
from cineray.models.embedders import ClipEmbedder, centred, pace_of, token_mean

REAL = torch.tensor([[True, True, True, True], [True, True, True, False], [True, False, False, False]])


def conditioning() -> Conditioning:
    return Conditioning(
        seconds_BT=torch.tensor([[0.0, 0.1, 0.2, 0.6], [0.0, 0.5, 1.0, 9.0], [0.0, 9.0, 9.0, 9.0]]),
        frame_is_real_BT=REAL,
        class_B=torch.tensor([3, 1, 4]),
        text_BLD=torch.arange(12.0).view(3, 2, 2),
        text_is_real_BL=torch.ones(3, 2, dtype=torch.bool),
    )


def test_clips_are_picked_in_any_order_and_cut_in_a_row() -> None:
    cond = conditioning()
    picked = cond.select(torch.tensor([2, 0, 2]))
    assert picked.class_B is not None
    assert picked.class_B.tolist() == [4, 3, 4]
    assert picked.seconds_BT[1].tolist() == cond.seconds_BT[0].tolist()
    cut = cond[1:]
    assert cut.text_BLD is not None
    assert cut.text_BLD.shape == (2, 2, 2)
    assert cut.pace_is_known_B is None


def test_without_keeps_times_and_drops_what_was_asked_for() -> None:
    dropped = conditioning().without(num_classes=7)
    assert dropped.class_B is not None
    assert dropped.class_B.tolist() == [7, 7, 7]
    assert dropped.text_is_real_BL is not None
    assert not bool(dropped.text_is_real_BL.any())
    assert torch.equal(dropped.seconds_BT, conditioning().seconds_BT)


def test_pace_is_the_mean_time_between_real_frames() -> None:
    """0.6 s over three gaps, 1 s over two; one frame has no pace, and padding has none either."""
    log_pace_B, known_B = pace_of(conditioning())
    torch.testing.assert_close(log_pace_B[:2], torch.tensor([math.log(0.2), math.log(0.5)]))
    assert known_B.tolist() == [True, True, False]


def test_pace_may_be_hidden_clip_by_clip() -> None:
    cond = conditioning()
    hidden = Conditioning(
        seconds_BT=cond.seconds_BT, frame_is_real_BT=REAL, pace_is_known_B=torch.tensor([False, True, True])
    )
    assert pace_of(hidden)[1].tolist() == [False, True, False]


def test_times_are_about_the_middle_of_real_frames() -> None:
    cond = conditioning()
    torch.testing.assert_close(centred(cond.seconds_BT, REAL)[1, :3], torch.tensor([-0.5, 0.0, 0.5]))


def test_frames_of_one_token_share_the_mean_of_the_real_ones() -> None:
    x_BTD = torch.tensor([1.0, 3.0, 5.0, 100.0]).view(1, 4, 1)
    assert token_mean(x_BTD, REAL[1:2], 2).flatten().tolist() == [2.0, 5.0]
    assert token_mean(x_BTD, REAL[2:3], 2).flatten().tolist() == [1.0, 0.0]


def test_each_frame_hears_its_own_noise_level_and_time() -> None:
    """A given first frame is a frame with t = 1: only its vector changes."""
    torch.manual_seed(0)
    embed = ClipEmbedder(8, num_classes=5, text_width=2)
    embed.init_weights()
    cond, t_BT = conditioning(), torch.full((3, 4), 0.3)
    given = t_BT.clone()
    given[:, 0] = 1.0
    changed = (embed(given, cond) - embed(t_BT, cond)).abs().amax(-1) > 1e-4
    assert changed.tolist() == [[True, False, False, False]] * 3
