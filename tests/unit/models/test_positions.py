"""Where a token is, in seconds and pixels: frame numbers and patch numbers play no part."""

from __future__ import annotations

import torch

from cineray.models.positions import Rotation, rotate, rotation_of, split_pairs

WAVES = {"seconds_wavelengths": (0.16, 16.0), "pixel_wavelengths": (32.0, 1024.0)}


def turned(seconds: list[float], grid: tuple[int, int], token_pixels: tuple[float, float]) -> Rotation:
    return rotation_of(torch.tensor([seconds]), grid, head_width=16, token_pixels=token_pixels, **WAVES)


def scores(rotation: Rotation) -> torch.Tensor:
    """What one query and one key, put everywhere, make of each pair of places."""
    q, k = torch.randn(2, 16, generator=torch.Generator().manual_seed(1))
    count = rotation.cos_BN1P.shape[1]
    placed = [rotate(part.expand(1, count, 1, 16), rotation)[0, :, 0] for part in (q, k)]
    return placed[0] @ placed[1].T


def test_a_frame_is_where_its_time_is_whatever_its_number() -> None:
    """Frames 0, 2 and 3 of a clip are the clip of these frames: a gap is a gap in seconds."""
    all_frames = scores(turned([0.0, 0.04, 0.09, 0.5], (1, 1), (8, 8)))
    chosen = scores(turned([0.0, 0.09, 0.5], (1, 1), (8, 8)))
    keep = torch.tensor([0, 2, 3])
    torch.testing.assert_close(all_frames[keep][:, keep], chosen)


def test_only_differences_of_time_count() -> None:
    torch.testing.assert_close(
        scores(turned([0.0, 0.04, 0.3], (2, 2), (8, 8))),
        scores(turned([5.0, 5.04, 5.3], (2, 2), (8, 8))),
        rtol=1e-4,
        atol=1e-4,
    )


def test_a_place_is_in_pixels_whatever_the_patch() -> None:
    """Every second token of 8 pixels is where the tokens of 16 pixels are."""
    fine, coarse = turned([0.0], (4, 4), (8, 8)), turned([0.0], (2, 2), (16, 16))
    picked = fine.cos_BN1P.view(4, 4, -1)[::2, ::2].reshape(4, -1)
    torch.testing.assert_close(picked, coarse.cos_BN1P.view(4, -1))


def test_tokens_are_counted_frame_by_frame_then_row_by_row() -> None:
    """The last token of the first row differs from the first of the second in row and column, not in time."""
    rotation = turned([0.0, 1.0], (2, 3), (16, 16))
    time_pairs, space_pairs = split_pairs(16)
    assert (time_pairs, space_pairs) == (4, 2)
    cos_FhwP = rotation.cos_BN1P.view(2, 2, 3, 8)
    assert torch.equal(cos_FhwP[0, 0, 2, :4], cos_FhwP[0, 1, 0, :4])
    assert torch.equal(cos_FhwP[0, 0, 1, 4:6], cos_FhwP[1, 0, 2, 4:6])  # same row
    assert torch.equal(cos_FhwP[0, 0, 2, 6:], cos_FhwP[1, 1, 2, 6:])  # same column
    assert not torch.equal(cos_FhwP[0, 0, 0, :4], cos_FhwP[1, 0, 0, :4])


def test_heads_are_split_with_what_is_left_over_given_to_time() -> None:
    assert [split_pairs(width) for width in (6, 24, 64, 128)] == [(1, 1), (4, 4), (12, 10), (22, 21)]


def test_turning_keeps_length_and_type() -> None:
    x = torch.randn(1, 6, 2, 16).bfloat16()
    out = rotate(x, turned([0.0], (2, 3), (16, 16)))
    assert out.dtype == torch.bfloat16
    torch.testing.assert_close(out.float().norm(dim=-1), x.float().norm(dim=-1), rtol=1e-2, atol=1e-2)
