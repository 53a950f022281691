"""Broken videos: one file for each way in which a file that is called `.mp4` is no video.

In: a folder. Out: small files, and for each the reason code that its reject must carry. They are what real piles hold:
a download that broke off, a placeholder of zero bytes, a page of text, and a Git LFS pointer that nobody resolved.
"""

from __future__ import annotations

from pathlib import Path

from cineray.testing.stamped import stamp_video

__all__ = ["broken_videos"]

_LFS_POINTER = """version https://git-lfs.github.com/spec/v1
oid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393
size 12345
"""


def broken_videos(folder: str | Path) -> dict[Path, str]:
    """Make one file of each kind; the result says which reason code each must be rejected with."""
    root = Path(folder)
    root.mkdir(parents=True, exist_ok=True)
    whole = root / "whole.mp4"
    # Big enough that its header, which lies in front, is whole in the truncated copy, as in a broken download.
    codec = ["-c:v", "libx264", "-qp", "0", "-pix_fmt", "yuv420p", "-g", "8", "-movflags", "+faststart"]
    stamp_video(whole, frames=60, size_px=(320, 240), codec=codec)
    contents = {
        "truncated": whole.read_bytes()[: whole.stat().st_size * 6 // 10],
        "empty": b"",
        "not_video": b"This is a page of text, and no video at all.\n" * 40,
        "lfs_pointer": _LFS_POINTER.encode(),
    }
    whole.unlink()
    made = {}
    for reason, content in contents.items():
        path = root / f"{reason}.mp4"
        path.write_bytes(content)
        made[path] = reason
    return made
