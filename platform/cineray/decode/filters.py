"""FFmpeg's filters one after the other: a picture to know the input by, its colour and the filters in; a graph out.

The graph takes every picture of this format and size, with one thread, because a worker has one core.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from av.filter import Graph
from av.video.frame import VideoFrame

from cineray.decode.colour import Colour


def chain_of(frame: VideoFrame, colour: Colour, steps: Sequence[tuple[str, str]]) -> Graph:
    """The filters by name and options. `colour`: what the pictures are, whatever their frames say."""
    graph = Graph()
    graph.threads = 1
    source = graph.add(
        "buffer",
        video_size=f"{frame.width}x{frame.height}",
        pix_fmt=frame.format.name,
        time_base="1/1",
        pixel_aspect="1/1",
        colorspace=str(colour.matrix),
        range=str(colour.range),
    )
    nodes: list[Any] = [source, *(graph.add(name, words) for name, words in steps), graph.add("buffersink")]
    graph.link_nodes(*nodes)
    graph.configure()
    return graph
