"""Embeddings that were already computed: captions go in, tensors come out; each is found by (caption, encoder's hash).

    <cache>/<first 16 digits of the encoder's hash>/<ab>/<blake3 of the caption>.safetensors

Objects are written once and never changed, so any number of workers may share a folder or an object-store prefix.
Without a place it is memory alone: the captions of a data set come again each epoch. L tokens, D values.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping

from torch import Tensor

from cineray.errors import CinerayError, PlaceMissing
from cineray.storage import join_uri, normalise_uri, put_if_absent, read_object

IN_MEMORY = 4096
"""Captions that are held in memory: 48 tokens of 1024 values each make 200 kB, so 0.8 GB at most."""

_LIMIT_BYTES = 1 << 28


class EmbeddingCache:
    """In memory always; kept at `place` if there is one."""

    def __init__(self, place: str, encoder_hash: str) -> None:
        self.root = join_uri(normalise_uri(place), encoder_hash[:16]) if place else ""
        self._recent: OrderedDict[str, Tensor] = OrderedDict()

    def get(self, captions: Iterable[str]) -> dict[str, Tensor]:
        """What is known of these captions, each (L, D)."""
        found = {caption: self._recent.get(caption) for caption in captions}
        for caption, text_LD in found.items():
            if text_LD is None and self.root:
                found[caption] = self._read(caption)
        known = {caption: text_LD for caption, text_LD in found.items() if text_LD is not None}
        self._remember(known)
        return known

    def put(self, embeddings: Mapping[str, Tensor]) -> None:
        """Keep them; what another worker has kept in the meantime stays."""
        from safetensors.torch import save

        self._remember(embeddings)
        if self.root:
            for caption, text_LD in embeddings.items():
                put_if_absent(self.uri_of(caption), save({"text": text_LD.contiguous()}))

    def uri_of(self, caption: str) -> str:
        """Where a caption's embedding is kept."""
        from blake3 import blake3

        name = blake3(caption.encode()).hexdigest()
        return join_uri(self.root, name[:2], f"{name}.safetensors")

    def _read(self, caption: str) -> Tensor | None:
        from safetensors import SafetensorError
        from safetensors.torch import load

        uri = self.uri_of(caption)
        try:
            return load(read_object(uri, limit_bytes=_LIMIT_BYTES))["text"]
        except PlaceMissing:
            return None
        except (SafetensorError, KeyError) as error:
            raise CinerayError(f"{uri} is no kept embedding ({error}); delete it, and it will be made again") from error

    def _remember(self, embeddings: Mapping[str, Tensor]) -> None:
        self._recent.update(embeddings)
        for caption in embeddings:
            self._recent.move_to_end(caption)
        while len(self._recent) > IN_MEMORY:
            self._recent.popitem(last=False)
