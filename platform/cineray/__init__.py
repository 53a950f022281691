"""cineray: piles of raw video in, addressed training batches out. The map is in platform/README.md."""

__version__ = "0.1.0"
