"""Pictures and clips within a page: as many as there is room for, of allowed kinds, from their own folder."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest

from cineray.errors import CinerayError
from cineray.report.embed import Embedder, within

PNG = b"\x89PNG\r\n\x1a\n" + bytes(992)


def test_a_file_becomes_an_address_that_holds_it(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(PNG)
    embed = Embedder()

    found = embed.file(str(tmp_path), "a.png")

    assert found == "data:image/png;base64," + base64.b64encode(PNG).decode()
    assert (embed.taken, embed.used_bytes, embed.left_out) == (1, len(found) - len("data:image/png;base64,"), [])


def test_what_has_no_room_is_left_out_and_smaller_ones_still_come_in(tmp_path: Path) -> None:
    for name, size in (("large.png", 3000), ("small.png", 600)):
        (tmp_path / name).write_bytes(PNG[:8] + bytes(size))
    embed = Embedder(limit_bytes=2000)

    assert embed.file(str(tmp_path), "large.png") == ""
    assert embed.file(str(tmp_path), "small.png") != ""
    assert embed.left_out == ["large.png: no room for it"]
    assert embed.used_bytes <= 2000


def test_bytes_that_were_made_here_need_room_too() -> None:
    embed = Embedder(limit_bytes=2000)

    assert embed.data(PNG, "png", "first") != ""
    assert embed.data(PNG, "png", "second") == ""
    assert embed.left_out == ["second: no room for its 1,000 bytes"]


@pytest.mark.parametrize("name", ["page.svg", "page.html", "clip.mp4", "none"])
def test_only_pictures_and_videos_that_are_what_their_name_says_come_in(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text("<svg xmlns='http://www.w3.org/2000/svg'><script>1</script></svg>")
    embed = Embedder()

    assert embed.file(str(tmp_path), name) == ""
    assert embed.left_out[0].startswith(f"{name}: it is no")


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    embed = Embedder()
    assert embed.file(str(tmp_path), "gone.mp4") == ""
    assert embed.left_out == ["gone.mp4: it is not there"]


@pytest.mark.parametrize(
    "name", ["../secret.png", "/etc/passwd", "a/../../b.png", "http://x/y.png", "", "a//b", "a\\b"]
)
def test_a_name_that_leads_out_of_the_folder_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(CinerayError, match="leads out of the folder"):
        within(str(tmp_path / "inner"), name)


def test_a_link_out_of_the_folder_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "secret.png").write_bytes(PNG)
    (tmp_path / "inner").mkdir()
    (tmp_path / "inner/a.png").symlink_to(tmp_path / "secret.png")
    embed = Embedder()

    assert embed.file(str(tmp_path / "inner"), "a.png") == ""
    assert embed.left_out == ["a.png: it is a link out of the folder"]
