"""Text encoders of the `transformers` library from a local folder: captions in, frozen vectors out, each computed once.

The folder is what `save_pretrained` of the model and its tokenizer wrote. Nothing is downloaded, and no code from the
folder is run: which classes may be loaded is a table. The encoder's hash covers every file of the folder and how
captions are cut, so kept embeddings are found again only for exactly the same encoder.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cineray.errors import UsageError
from cineray.models.configs import TextConfig
from cineray.models.embedding_cache import EmbeddingCache
from cineray.models.text import TextEncoder

CLASSES: dict[str, str] = {
    "bert": "BertModel",
    "clip": "CLIPTextModel",
    "clip_text_model": "CLIPTextModel",
    "mt5": "MT5EncoderModel",
    "t5": "T5EncoderModel",
    "umt5": "UMT5EncoderModel",
}
"""`model_type` of the folder's config.json -> the library's class that encodes text."""

_CHUNK_BYTES = 1 << 24


class TransformersText(TextEncoder):
    """A frozen encoder, its tokenizer, and what they have already computed.

    Its weights are no part of a model's: they are in no checkpoint and no average, are not sharded, and keep their
    type. It only follows the model to its device.
    """

    trainable = False
    encoder: Any

    def __init__(self, config: TextConfig) -> None:
        super().__init__()
        folder = Path(config.path)
        if not (folder / "config.json").is_file():
            raise UsageError(
                f"text.path got {config.path}; wanted a local folder with config.json, weights and tokenizer, as "
                "save_pretrained writes them"
            )
        self.tokens = config.tokens
        self.hash = folder_hash(folder, config.tokens)
        encoder, self.tokenizer = _load(folder)
        self.__dict__["encoder"] = encoder.requires_grad_(False).eval()  # past the registration of submodules
        self.width = int(getattr(self.encoder.config, "d_model", 0) or self.encoder.config.hidden_size)
        self.cache = EmbeddingCache(config.cache, self.hash)

    def init_weights(self) -> None:
        """Nothing here is drawn."""

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> TransformersText:
        """Whatever is done to the model's weights, follow it to its device, and do no more."""
        device = fn(torch.empty(0, device=self.encoder.device)).device
        if device.type != "meta":
            self.encoder.to(device)
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        return self

    def encode(self, captions: Sequence[str | None]) -> tuple[Tensor, Tensor]:
        """From memory, from the kept embeddings, or computed and kept; on the device of the weights."""
        told = [caption or "" for caption in captions]
        known = self.cache.get([caption for caption in dict.fromkeys(told) if caption])
        new = [caption for caption in dict.fromkeys(told) if caption and caption not in known]
        if new:
            known |= self._compute(new)
            self.cache.put({caption: known[caption] for caption in new})
        device = self.encoder.device
        text_BLD = torch.zeros(len(told), self.tokens, self.width, dtype=self.encoder.dtype, device=device)
        is_real_BL = torch.zeros(len(told), self.tokens, dtype=torch.bool, device=device)
        for number, caption in enumerate(told):
            if caption:
                text_LD = known[caption].to(device)
                text_BLD[number, : len(text_LD)] = text_LD
                is_real_BL[number, : len(text_LD)] = True
        return text_BLD, is_real_BL

    @torch.no_grad()
    def _compute(self, captions: list[str]) -> dict[str, Tensor]:
        """Each caption's real tokens, (L, D), on the CPU."""
        told = self.tokenizer(
            captions, padding="max_length", truncation=True, max_length=self.tokens, return_tensors="pt"
        ).to(self.encoder.device)
        out_BLD = self.encoder(input_ids=told.input_ids, attention_mask=told.attention_mask).last_hidden_state
        is_real_BL = told.attention_mask.bool()
        rows = zip(captions, out_BLD, is_real_BL, strict=True)
        return {caption: text_LD[is_real_L].cpu() for caption, text_LD, is_real_L in rows}


def _load(folder: Path) -> tuple[Any, Any]:
    try:
        library: Any = importlib.import_module("transformers")
    except ImportError:
        raise UsageError("text.kind=transformers needs the library: pip install 'cineray[text]'") from None
    kind = library.AutoConfig.from_pretrained(folder, local_files_only=True).model_type
    if kind not in CLASSES:
        raise UsageError(f"{folder} holds a {kind}; text encoders that can be loaded: {', '.join(sorted(CLASSES))}")
    # dtype="auto": large encoders are stored in bfloat16, and frozen weights need no more than they were saved with.
    with torch.device("cpu"):  # also when the model around it is built without memory
        encoder = getattr(library, CLASSES[kind]).from_pretrained(folder, local_files_only=True, dtype="auto")
    tokenizer = library.AutoTokenizer.from_pretrained(folder, local_files_only=True)
    return encoder, tokenizer


def folder_hash(folder: Path, tokens: int) -> str:
    """blake3 over all files of the folder, by name, and the number of tokens that captions are cut to."""
    from blake3 import blake3

    digest = blake3(f"tokens={tokens}\n".encode())
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        digest.update(f"{file.relative_to(folder).as_posix()} {file.stat().st_size}\n".encode())
        for chunk in _chunks(file):
            digest.update(chunk)
    return digest.hexdigest()


def _chunks(file: Path) -> Iterator[bytes]:
    with file.open("rb") as opened:
        while chunk := opened.read(_CHUNK_BYTES):
            yield chunk
