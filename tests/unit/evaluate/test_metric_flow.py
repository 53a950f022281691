"""Our own flow, and what is read from it: shifts that are known because we made them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from cineray.evaluate.dynamics import ANGLES, DynamicDegree, by_direction
from cineray.evaluate.flow import flow_between, lucas_kanade, warped
from cineray.evaluate.followed import followed
from cineray.evaluate.shared import once_per_frames
from cineray.evaluate.warping import WarpingError, mean_over_pairs
from cineray.testing.made_clips import made_clips


def texture(size: int, *, dx: float = 0.0, dy: float = 0.0) -> torch.Tensor:
    """Smooth and everywhere different, moved by so much; exact between pixels too."""
    y, x = torch.meshgrid(torch.arange(size).double() - dy, torch.arange(size).double() - dx, indexing="ij")
    value = 0.5 + 0.2 * torch.sin(x / 3.1) * torch.cos(y / 3.7) + 0.15 * torch.sin(x / 5.3 + y / 4.1)
    return value.float()[None, None].repeat(1, 3, 1, 1)


def rough(*, seed: int) -> torch.Tensor:
    """A random picture with detail at every place."""
    noise = torch.rand(1, 1, 64, 64, generator=torch.Generator().manual_seed(seed))
    smooth = torch.nn.functional.avg_pool2d(noise, 3, 1, 1, count_include_pad=False)
    smooth = torch.nn.functional.avg_pool2d(smooth, 3, 1, 1, count_include_pad=False)
    return ((smooth - smooth.mean()) / smooth.std() * 0.2 + 0.5).clamp(0, 1).repeat(1, 3, 1, 1)


@pytest.mark.parametrize(("dx", "dy"), [(0.4, 0.0), (1.5, -0.7), (-3.0, 2.0), (5.0, 4.0)])
def test_a_moved_texture_moves_by_that_much(dx: float, dy: float) -> None:
    flow = lucas_kanade(texture(48), texture(48, dx=dx, dy=dy))[0, :, 8:-8, 8:-8]
    assert flow.mean(dim=(1, 2)).tolist() == pytest.approx([dx, dy], abs=0.05)
    assert float((flow - torch.tensor([dx, dy])[:, None, None]).abs().mean()) < 0.1


def test_going_where_the_flow_leads_finds_the_same_picture() -> None:
    first, second = texture(48), texture(48, dx=2.0, dy=1.0)
    left = (warped(second, lucas_kanade(first, second)) - first).abs()[..., 8:-8, 8:-8].mean()
    assert float(left) < 0.1 * float((second - first).abs().mean())


def test_what_comes_out_from_behind_is_masked() -> None:
    """A patch slides over a ground by four pixels: most of what it covers is masked, most of it and all else is not."""
    ground, patch = rough(seed=1), rough(seed=2)
    first, second = ground.clone(), ground.clone()
    first[..., 20:44, 16:36] = patch[..., 20:44, 16:36]
    second[..., 20:44, 20:40] = patch[..., 20:44, 16:36]
    visible = flow_between(first, second).visible_PHW[0].float()
    assert float(visible[22:42, 36:40].mean()) < 0.4
    assert float(visible[22:42, 18:34].mean()) > 0.7
    assert float(visible[4:14, 4:60].mean()) == 1.0


def test_a_plain_picture_does_not_move() -> None:
    assert float(lucas_kanade(torch.full((1, 3, 32, 32), 0.3), torch.full((1, 3, 32, 32), 0.3)).abs().max()) == 0.0


def test_followed_points_go_with_the_object_and_stay_on_the_ground() -> None:
    """The points that begin on the shape travel as far as it does."""
    clips = made_clips(16)
    seen = followed(clips.frames_NTHWC)
    went_NKX = seen.points_NTKX[:, -1] - seen.points_NTKX[:, 0]
    for at in range(16):
        on_it = np.linalg.norm(went_NKX[at], axis=1) > 2
        told = clips.facts[at]["speed_widths_per_second"] * 32 * clips.seconds_NT[at, -1]
        assert on_it.sum() >= 3
        assert np.median(np.linalg.norm(went_NKX[at][on_it], axis=1)) == pytest.approx(told, rel=0.2)
        assert (~on_it).mean() > 0.65


def test_a_point_that_is_lost_has_lost_its_looks_for_good() -> None:
    """A square is elsewhere for two frames and comes back: what came back is not known to be the same."""
    frames = np.zeros((1, 8, 32, 32, 3), dtype=np.uint8)
    for t in range(8):
        at = 20 if t in (3, 4) else 4
        frames[0, t, at : at + 8, at : at + 8] = (200, 40, 40)
    lost_T = followed(frames).lost_looks_NT[0]
    np.testing.assert_allclose(lost_T, [0, 0, 0, 1, 1, 1, 1, 1], atol=0.05)


def test_clips_of_other_sizes_and_lengths_are_judged_in_the_same_units() -> None:
    """Twice the pixels, twice the frames per second: the same dynamic degree within a few per cent."""
    metric = DynamicDegree()
    small, large = made_clips(16), made_clips(16, side_px=64, frames=15, frames_per_second=16)
    one, two = (metric.score(metric.measure(each)).value for each in (small, large))
    assert two == pytest.approx(one, rel=0.25)


def test_a_clip_of_one_frame_says_nothing_of_motion() -> None:
    clips = made_clips(4, frames=1)
    for metric in (DynamicDegree(), WarpingError()):
        score = metric.score(metric.measure(clips))
        assert (score.value, score.skipped) == (None, metric.nothing)
        assert "too short" in metric.nothing


def test_pairs_that_hardly_see_each_other_do_not_count() -> None:
    """Neither as perfect, nor at all; a clip of such pairs alone has no value."""
    nan = float("nan")
    np.testing.assert_array_equal(mean_over_pairs(np.array([[2.0, nan, 4.0], [nan, nan, nan]])), [3.0, nan])


def test_noise_has_no_warping_error_rather_than_a_small_one() -> None:
    """No flow finds anything again, so all is masked; each frame of noise is new."""
    noise = np.random.default_rng(0).integers(0, 256, (4, 6, 32, 32, 3)).astype(np.uint8)
    rows_ND = WarpingError().rows(replace(made_clips(4, frames=6), frames_NTHWC=noise))
    assert np.isnan(rows_ND).all() or float(np.nanmean(rows_ND)) > 20


def test_vectors_are_gathered_by_direction() -> None:
    """One point of three goes right at speed 3, another half-way between right and down-right at speed 6."""
    turn = 2 * np.pi / ANGLES
    vectors = np.array([[3.0, 0.0], [6 * np.cos(turn / 2), 6 * np.sin(turn / 2)], [0.0, 0.0]])
    got = by_direction(vectors[None, None], np.ones((1, 1, 3)))[0] ** 2
    np.testing.assert_allclose(got, [2.0, 1.0, 0, 0, 0, 0, 0, 0], atol=1e-9)


def test_what_is_looked_at_by_several_metrics_is_computed_once_and_let_go() -> None:
    calls = []

    @once_per_frames
    def count(frames: np.ndarray) -> int:
        calls.append(id(frames))
        return len(calls)

    frames = made_clips(2).frames_NTHWC
    again = replace(made_clips(2)).frames_NTHWC
    assert (count(frames), count(frames), count(again), count(frames)) == (1, 1, 2, 1)
    del frames, again
    assert count(made_clips(2).frames_NTHWC) == 3
