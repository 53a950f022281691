"""Symbolic links in a folder that is read: a link in, the file it stands for out, if that lies in the same folder.

A link inside the folder is another name of a file and is read by the file's own path, so that turning the link later
changes nothing. A link out of the folder is refused: a folder that somebody sent could otherwise name any file of the
machine that reads it. Links to folders are never walked.
"""

from __future__ import annotations

import os

from cineray.errors import PlaceMissing, PlaceRefused


def target_inside(root: str, link: str) -> str:
    """The real path of what the link stands for; PlaceRefused if that is outside the root, PlaceMissing if nothing."""
    real_root, target = os.path.realpath(root), os.path.realpath(link)
    if os.path.commonpath([real_root, target]) != real_root:
        raise PlaceRefused(
            f"it is a link to {target}, out of the folder {root}; links out are not followed. "
            "Copy the file into the folder, or name its own folder"
        )
    if not os.path.exists(target):
        raise PlaceMissing(f"it is a link to {target}, and nothing lies there")
    return target
