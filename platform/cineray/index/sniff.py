"""The first kilobyte of a file in; a reason out when it is plainly not a video. FFmpeg is asked only after this.

The reason names the kind of file and quotes nothing of it: reasons are stored and shown, and the file may be secret.

FFmpeg guesses generously: it takes text for subtitles, pictures for one-frame videos and playlists for an invitation to
open other addresses. So what is well known is named here, and `DEMUXERS` lists the only formats that FFmpeg may try:
containers that hold their own bytes. Playlists, concat scripts and image sequences are not among them.
"""

from __future__ import annotations

import string

from cineray.index.reasons import Unfit

SNIFF_BYTES = 1024

DEMUXERS = (
    "mov,mp4,m4a,3gp,3g2,mj2",
    "matroska,webm",
    "avi,flv,asf,ogg,mpegts,mpeg,mxf,nut,ivf,gxf,rm,wtv,dv,yuv4mpegpipe",  # one demuxer each, in FFmpeg's own names
    "h264,hevc,m4v,mpegvideo,obu,av1,vc1,vvc",  # bare streams without a container
)
SELF_CONTAINED = {"format_whitelist": ",".join(DEMUXERS), "protocol_whitelist": "none"}
"""Options for opening with FFmpeg: no demuxer that opens other files, and none that could open them."""

_LFS = b"version https://git-lfs.github.com/spec/"
_OTHERS: tuple[tuple[int, bytes, str], ...] = (
    (0, b"%PDF", "a PDF document"),
    (0, b"PK\x03\x04", "a zip archive"),
    (0, b"PK\x05\x06", "an empty zip archive"),
    (0, b"\x1f\x8b", "a gzip file"),
    (0, b"BZh", "a bzip2 file"),
    (0, b"\xfd7zXZ\x00", "an xz file"),
    (0, b"\x28\xb5\x2f\xfd", "a zstandard file"),
    (0, b"7z\xbc\xaf\x27\x1c", "a 7z archive"),
    (0, b"Rar!", "a RAR archive"),
    (257, b"ustar", "a tar archive; ingest it as a WebDataset source"),
    (0, b"\x89PNG", "a PNG image"),
    (0, b"\xff\xd8\xff", "a JPEG image"),
    (0, b"GIF8", "a GIF image; an animated one can be converted: ffmpeg -i in.gif out.mp4"),
    (0, b"BM", "a BMP image"),
    (0, b"II*\x00", "a TIFF image"),
    (0, b"MM\x00*", "a TIFF image"),
    (8, b"WEBP", "a WebP image"),
    (0, b"\x93NUMPY", "a NumPy array"),
    (0, b"PAR1", "a Parquet file"),
    (0, b"\x7fELF", "a program"),
    (0, b"\x80\x02", "a pickle"),
    (0, b"\x80\x04", "a pickle"),
    (0, b"\x80\x05", "a pickle"),
    (0, b"SQLite format 3", "an SQLite database"),
)
_IMAGE_BRANDS = {b"heic", b"heix", b"hevc", b"mif1", b"msf1", b"avif", b"avis"}
_AUDIO: tuple[tuple[int, bytes, str], ...] = (
    (0, b"ID3", "an MP3 file"),
    (0, b"\xff\xfb", "an MP3 file"),
    (0, b"fLaC", "a FLAC file"),
    (8, b"WAVE", "a WAV file"),
    (0, b"\xff\xf1", "an AAC file"),
    (0, b"\xff\xf9", "an AAC file"),
)
_TEXT = set(string.printable.encode()) | set(range(0x80, 0x100))


def refuse_what_is_no_video(front: bytes, size_bytes: int) -> None:
    """Raise `Unfit` when the first bytes say that this is something else. Silence is no proof of a video."""
    if size_bytes == 0 or not front:
        raise Unfit("empty", "the file has 0 bytes; fetch it again from where it came from")
    if front.startswith(_LFS):
        sizes = (line[5:] for line in front.decode("ascii", "replace").splitlines() if line[:5] == "size ")
        wanted = next((size for size in sizes if size.isascii() and size.isdigit()), "unknown many")
        raise Unfit(
            "lfs_pointer", f"this is a Git LFS pointer to a file of {wanted} bytes; run `git lfs pull` and ingest again"
        )
    for at, magic, what in _AUDIO:
        if front.startswith(magic, at):
            raise Unfit(
                "no_video_stream", f"this is {what}, and has no video stream; keep it beside a video as a sidecar"
            )
    for at, magic, what in _OTHERS:
        if front.startswith(magic, at):
            raise Unfit("not_video", f"this is {what}; leave it out of the source")
    if front[4:8] == b"ftyp" and front[8:12] in _IMAGE_BRANDS:
        raise Unfit("not_video", "this is a HEIF or AVIF image; leave it out of the source")
    if not any(front):
        raise Unfit(
            "not_video", f"the first {len(front)} bytes are all zero: a copy that was never filled; fetch it again"
        )
    if all(byte in _TEXT for byte in front) and b"\x00" not in front and not front.startswith(b"YUV4MPEG2"):
        raise Unfit("not_video", "this is text; leave it out of the source")
