"""Captions in, vectors out: the built-in encoder, and what others have computed, kept by caption and encoder."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from cineray.errors import CinerayError
from cineray.models import CaptionEncoder, TextConfig, build_text
from cineray.models.embedding_cache import IN_MEMORY, EmbeddingCache
from cineray.models.text import hashed, words_of


def encoder(**told: object) -> CaptionEncoder:
    torch.manual_seed(0)
    config = TextConfig.model_validate({"kind": "builtin", "tokens": 6, "width": 16, "heads": 2, **told})
    built = build_text(config)
    assert isinstance(built, CaptionEncoder)
    return built


def test_words_are_what_people_see_as_words_in_any_script() -> None:
    assert words_of("A red DISK, moving-up!") == ["a", "red", "disk", ",", "moving", "-", "up", "!"]
    assert words_of("\uff32\uff45\uff44 Stra\u00dfe") == ["red", "strasse"]
    assert words_of("\u7ea2\u8272\u5706 disk") == ["\u7ea2", "\u8272", "\u5706", "disk"]
    assert words_of("\u043a\u0440\u0430\u0441\u043d\u044b\u0439 \u0434\u0438\u0441\u043a") == [
        "\u043a\u0440\u0430\u0441\u043d\u044b\u0439",
        "\u0434\u0438\u0441\u043a",
    ]
    assert words_of("  ") == []


def test_captions_have_one_shape_whatever_they_say() -> None:
    rows_BL2, is_real_BL = hashed(["red disk", "", None, "one two three four five six seven eight"], 6)
    assert rows_BL2.shape == (4, 6, 2)
    assert is_real_BL.sum(1).tolist() == [2, 0, 0, 6]
    assert torch.equal(hashed(["disk red"], 6)[0][0, 0], rows_BL2[0, 1]), "a word is known wherever it stands"


def test_a_caption_means_the_same_in_any_company_and_any_order_matters() -> None:
    encode = encoder().encode
    with torch.no_grad():
        alone, _ = encode(["red disk"])
        among, is_real_BL = encode([None, "blue square moving up", "red disk"])
        turned, _ = encode(["disk red"])
    torch.testing.assert_close(among[2, :2], alone[0, :2], rtol=1e-4, atol=1e-5)
    assert not torch.allclose(turned[0, :2].flip(0), alone[0, :2])
    assert is_real_BL.tolist() == [[False] * 6, [True] * 4 + [False] * 2, [True] * 2 + [False] * 4]
    assert bool(among.isfinite().all())


def test_every_weight_of_the_encoder_learns() -> None:
    model = encoder()
    text_BLD, is_real_BL = model.encode(["red disk", None, "blue"])
    text_BLD[is_real_BL].pow(3).sum().backward()
    assert model.trainable
    assert [name for name, value in model.named_parameters() if value.grad is None or not bool(value.grad.any())] == []


def test_no_text_is_no_encoder() -> None:
    assert build_text(TextConfig()) is None


def test_an_embedding_is_found_by_caption_and_encoder_alone(tmp_path: Path) -> None:
    """Another process finds what this one kept; another encoder does not."""
    made = {"red disk": torch.randn(2, 4), "a caption with / and \u00fc": torch.randn(5, 4).bfloat16()}
    EmbeddingCache(str(tmp_path), "1" * 64).put(made)
    found = EmbeddingCache(str(tmp_path), "1" * 64).get([*made, "blue"])
    assert set(found) == set(made)
    assert all(torch.equal(found[caption], made[caption]) for caption in made)
    assert all(found[caption].dtype == made[caption].dtype for caption in made)
    assert EmbeddingCache(str(tmp_path), "2" * 64).get(made) == {}


def test_without_a_place_embeddings_live_in_memory_and_only_so_many(tmp_path: Path) -> None:
    cache = EmbeddingCache("", "1" * 64)
    cache.put({f"caption {number}": torch.zeros(1, 1) for number in range(IN_MEMORY)})
    assert set(cache.get(["caption 0"])) == {"caption 0"}
    cache.put({"one more": torch.zeros(1, 1)})
    assert set(cache.get(["caption 0", "caption 1", "one more"])) == {"caption 0", "one more"}


def test_a_damaged_embedding_is_named(tmp_path: Path) -> None:
    cache = EmbeddingCache(str(tmp_path), "1" * 64)
    path = Path(cache.uri_of("red"))
    path.parent.mkdir(parents=True)
    path.write_bytes(b"torn")
    with pytest.raises(CinerayError, match=f"{path.name} is no kept embedding"):
        cache.get(["red"])
