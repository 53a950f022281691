"""Encoders of the `transformers` library, loaded by the real code from tiny random ones that are saved here."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from cineray.errors import UsageError
from cineray.models import TextConfig, TextEncoder, build_text

transformers = pytest.importorskip("transformers", reason="needs the extra: pip install 'cineray[text]'")

WORDS = ["<pad>", "</s>", "<unk>", "red", "blue", "disk", "moving", "up"]


def save_tokenizer(folder: Path) -> None:
    """Words by spaces; nothing is downloaded."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Whitespace
    from tokenizers.processors import TemplateProcessing

    made = Tokenizer(WordLevel({word: number for number, word in enumerate(WORDS)}, unk_token="<unk>"))
    made.pre_tokenizer = Whitespace()
    made.post_processor = TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=made, pad_token="<pad>", eos_token="</s>", unk_token="<unk>"
    ).save_pretrained(folder)


def save_t5(folder: Path) -> Path:
    torch.manual_seed(0)
    config = transformers.T5Config(
        vocab_size=len(WORDS), d_model=16, d_kv=8, d_ff=32, num_layers=2, num_heads=2, dropout_rate=0.5
    )
    transformers.T5EncoderModel(config).save_pretrained(folder)
    save_tokenizer(folder)
    return folder


def save_clip(folder: Path) -> Path:
    torch.manual_seed(0)
    config = transformers.CLIPTextConfig(
        vocab_size=len(WORDS),
        hidden_size=12,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=8,
        eos_token_id=1,
    )
    transformers.CLIPTextModel(config).save_pretrained(folder)
    save_tokenizer(folder)
    return folder


def encoder(folder: Path, **told: object) -> TextEncoder:
    built = build_text(TextConfig.model_validate({"kind": "transformers", "path": str(folder), "tokens": 5, **told}))
    assert built is not None
    return built


@pytest.mark.parametrize(("save", "width"), [(save_t5, 16), (save_clip, 12)])
def test_a_saved_encoder_gives_what_the_library_gives(tmp_path: Path, save: object, width: int) -> None:
    folder = save(tmp_path / "encoder")  # type: ignore[operator]
    made = encoder(folder)
    text_BLD, is_real_BL = made.encode(["red disk", None, "blue disk moving up"])
    assert (text_BLD.shape, made.width, made.trainable) == ((3, 5, width), width, False)
    assert is_real_BL.sum(1).tolist() == [3, 0, 5]  # the words, and the end of the caption
    kind = "T5EncoderModel" if width == 16 else "CLIPTextModel"
    library = getattr(transformers, kind).from_pretrained(folder).eval()
    tokens = torch.tensor([[3, 5, 1]])
    with torch.no_grad():
        wanted = library(input_ids=tokens, attention_mask=torch.ones_like(tokens)).last_hidden_state
    torch.testing.assert_close(text_BLD[0, :3], wanted[0], rtol=1e-4, atol=1e-5)
    assert not bool(text_BLD[1].any())


def test_training_mode_changes_nothing_and_its_weights_are_no_part_of_a_model(tmp_path: Path) -> None:
    """T5 here drops half of its values in training mode; and no checkpoint should hold an encoder that is frozen."""
    made = encoder(save_t5(tmp_path / "encoder"))
    model = torch.nn.ModuleDict({"text": made, "net": torch.nn.Linear(2, 2)}).train()
    first = made.encode(["red disk"])[0]
    made.cache._recent.clear()
    assert torch.equal(made.encode(["red disk"])[0], first)
    assert set(model.state_dict()) == {"net.weight", "net.bias"}
    model.to(torch.float64)
    assert made.encode(["blue disk"])[0].dtype == torch.float32


def test_it_survives_being_built_without_memory(tmp_path: Path) -> None:
    """A sharded model is built on `meta` and emptied into place; weights that were read must not be emptied."""
    folder = save_t5(tmp_path / "encoder")
    with torch.device("meta"):
        made = encoder(folder)
    before = made.encode(["red"])[0]
    made.to_empty(device="cpu")
    assert torch.equal(made.encode(["red disk"])[0], encoder(folder).encode(["red disk"])[0])
    assert before.device.type == "cpu"


def test_each_caption_is_computed_once_and_found_by_the_next_process(tmp_path: Path) -> None:
    folder, kept = save_t5(tmp_path / "encoder"), str(tmp_path / "kept")
    first = encoder(folder, cache=kept)
    text_BLD, _ = first.encode(["red disk", "red disk", "blue"])
    files = sorted((tmp_path / "kept").rglob("*.safetensors"))
    assert len(files) == 2
    second = encoder(folder, cache=kept)

    def must_not_run(captions: list[str]) -> dict[str, torch.Tensor]:
        raise AssertionError(f"{captions} were kept")

    second._compute = must_not_run  # type: ignore[method-assign]
    again, _ = second.encode(["blue", "red disk"])
    assert torch.equal(again, text_BLD[[2, 0]])


def test_another_encoder_does_not_find_them(tmp_path: Path) -> None:
    """One weight, or another number of tokens, and it is another encoder."""
    folder = save_t5(tmp_path / "encoder")
    first, longer = encoder(folder), encoder(folder, tokens=6)
    weights = next(folder.glob("*.safetensors"))
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(bytes(data))
    assert len({first.hash, longer.hash, encoder(folder).hash}) == 3


def test_what_is_no_encoder_is_refused_in_words(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"wanted a local folder with config\.json"):
        encoder(tmp_path / "nothing")
    (tmp_path / "vision").mkdir()
    (tmp_path / "vision" / "config.json").write_text(json.dumps({"model_type": "vit"}))
    with pytest.raises(UsageError, match="holds a vit; text encoders that can be loaded: bert, clip"):
        encoder(tmp_path / "vision")
