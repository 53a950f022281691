"""A file may crash, hang or starve the process that looks at it: it costs that file, and no other."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cineray.errors import CinerayError, UsageError
from cineray.index import IndexPool, Limits, index_video, indexed_from_dict, indexed_to_dict
from cineray.records import IndexedVideo, Place, Reject, VideoFile

CHILD = (sys.executable, str(Path(__file__).with_name("pool_child.py")))
Made = Callable[[str], Path]


@pytest.fixture(scope="module")
def pool() -> Iterator[IndexPool]:
    limits = Limits(wall_seconds=1.5, cpu_seconds=1, memory_bytes=1 << 30)
    with IndexPool(2, child_command=CHILD, limits=limits) as pool:
        yield pool


@pytest.mark.parametrize(
    ("name", "reason", "words"),
    [
        ("segfault", "decoder_crashed", "SIGSEGV"),
        ("abort", "decoder_crashed", "SIGABRT"),
        ("exit", "decoder_crashed", "exit code 3, saying: last words of a library"),
        ("hang", "timed_out", "longer than 1.5 s"),
        ("eat memory", "out_of_memory", "1024 MiB"),
        ("killed for memory", "out_of_memory", "ran out of memory"),
        ("bug", "decoder_crashed", "unexpected KeyError at pool_child.py:"),
    ],
)
def test_a_misbehaving_file_gets_its_reason_and_the_next_file_is_indexed(
    name: str, reason: str, words: str, pool: IndexPool, made: Made
) -> None:
    place = Place(uri=str(made("b.mp4")))
    bad = pool.index(VideoFile(name=name, place=place))
    assert isinstance(bad, Reject)
    assert (bad.name, bad.stage, bad.reason) == (name, "index", reason), bad
    assert words in bad.detail
    assert isinstance(pool.index(VideoFile(name="good", place=place)), IndexedVideo)


def test_a_file_that_spins_is_stopped_by_the_kernel(made: Made) -> None:
    with IndexPool(1, child_command=CHILD, limits=Limits(wall_seconds=60, cpu_seconds=1)) as pool:
        bad = pool.index(VideoFile(name="spin", place=Place(uri=str(made("b.mp4")))))
    assert isinstance(bad, Reject)
    assert (bad.reason, "1 s of CPU" in bad.detail) == ("timed_out", True)


def test_what_libraries_print_does_not_disturb_the_answers(pool: IndexPool, made: Made) -> None:
    assert isinstance(pool.index(VideoFile(name="chatter", place=Place(uri=str(made("b.mp4"))))), IndexedVideo)


def test_results_come_in_the_order_of_the_files_whatever_happens_between(pool: IndexPool, made: Made) -> None:
    names = ["a", "segfault", "b", "exit", "c", "d", "eat memory", "e", "f", "g"]
    place = Place(uri=str(made("b.mp4")))
    results = list(pool.map(VideoFile(name=name, place=place) for name in names))
    assert [isinstance(result, Reject) for result in results] == [len(name) > 1 for name in names]
    assert [result.name for result in results if isinstance(result, Reject)] == ["segfault", "exit", "eat memory"]


def test_a_pool_gives_what_indexing_in_this_process_gives(made: Made) -> None:
    files = [
        VideoFile(name=n, place=Place(uri=str(made(n)))) for n in ("b.mp4", "b.mkv", "b.ts", "sound.mp4", "cover.png")
    ]
    with IndexPool(2, level="decode") as pool:
        assert list(pool.map(files)) == [index_video(file, level="decode") for file in files]


def test_looking_ahead_is_bounded(pool: IndexPool, made: Made) -> None:
    taken = []

    def files() -> Iterator[VideoFile]:
        for number in range(1000):
            taken.append(number)
            yield VideoFile(name="good", place=Place(uri=str(made("b.mp4"))))

    results = pool.map(files())
    next(results)
    assert len(taken) <= 8 + 1
    results.close()  # type: ignore[attr-defined]


def test_who_goes_away_does_not_wait_for_what_is_at_work_and_the_pool_goes_on(made: Made) -> None:
    place, begun, ends = Place(uri=str(made("b.mp4"))), threading.Event(), list[str]()

    def do(file: VideoFile) -> IndexedVideo | Reject:
        if file.name == "hang":
            begun.set()
        try:
            found = pool.index(file)
        except UsageError:
            ends.append("ended")
            raise
        ends.append(found.reason if isinstance(found, Reject) else "indexed")
        return found

    with IndexPool(1, child_command=CHILD, limits=Limits(wall_seconds=20)) as pool:
        results = pool.each(
            do, [VideoFile(name=name, place=place) for name in ("good", "hang", "good")], ahead=2, name="t"
        )
        assert isinstance(next(results), IndexedVideo)
        begun.wait()
        results.close()  # type: ignore[attr-defined]
        assert ends == ["indexed", "ended"]
        assert isinstance(pool.index(VideoFile(name="good", place=place)), IndexedVideo)


def test_one_pool_serves_many_threads(pool: IndexPool, made: Made) -> None:
    results: list[object] = []
    file = VideoFile(name="good", place=Place(uri=str(made("b.mp4"))))
    threads = [threading.Thread(target=lambda: results.append(pool.index(file))) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [index_video(file)] * 6


def test_rewriting_can_be_done_in_a_child(made: Made, tmp_path: Path) -> None:
    path, out = made("b.ts"), tmp_path / "out.mp4"
    with IndexPool(1) as pool:
        file = VideoFile(name="b.ts", place=Place(uri=str(path)))
        video = pool.index(file)
        assert isinstance(video, IndexedVideo)
        result = pool.remux(file, video, str(out))
    assert isinstance(result, IndexedVideo)
    assert result == index_video(VideoFile(name="out", place=Place(uri=str(out))))


def test_a_child_that_cannot_start_is_an_error_and_no_reject(made: Made) -> None:
    command = (sys.executable, "-c", "raise SystemExit('no such library')")
    with IndexPool(1, child_command=command) as pool, pytest.raises(CinerayError, match="no such library"):
        pool.index(VideoFile(name="a", place=Place(uri=str(made("b.mp4")))))


def test_a_mistake_of_the_caller_is_an_error_and_no_reject(made: Made) -> None:
    file = VideoFile(name="a", place=Place(uri=str(made("b.mp4"))))
    with IndexPool(1, level="everything") as pool, pytest.raises(CinerayError, match="everything") as error:
        pool.index(file)
    assert error.value.exit_code == 2
    with pytest.raises(UsageError, match="closed"):
        pool.index(file)


def test_children_end_when_their_parent_is_killed(made: Made) -> None:
    program = (
        "import sys, threading, time\n"
        "from cineray.index import IndexPool\n"
        "from cineray.records import Place, VideoFile\n"
        f"pool = IndexPool(1, child_command={CHILD!r})\n"
        f"place = Place(uri={str(made('b.mp4'))!r})\n"
        "pool.index(VideoFile(name='good', place=place))\n"
        "threading.Thread(target=pool.index, args=[VideoFile(name=sys.argv[1], place=place)]).start()\n"
        "time.sleep(0.2)\n"
        "print(pool._workers[0].child.process.pid, flush=True)\n"
        "time.sleep(1000)\n"
    )
    for doing in ("hang", "spin", "good"):
        parent = subprocess.Popen([sys.executable, "-c", program, doing], stdout=subprocess.PIPE)
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        assert alive(child)
        parent.send_signal(signal.SIGKILL)
        parent.wait()
        parent.stdout.close()
        deadline = time.monotonic() + 5
        while alive(child) and time.monotonic() < deadline:
            time.sleep(0.02)
        assert not alive(child), doing


def alive(pid: int) -> bool:
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_leaving_the_pool_ends_its_children(made: Made) -> None:
    with IndexPool(2) as pool:
        list(pool.map([VideoFile(name="a", place=Place(uri=str(made("b.mp4"))))] * 4))
        children = [worker.child.process.pid for worker in pool._workers if worker.child]
        assert children
        assert all(alive(pid) for pid in children)
    assert not any(alive(pid) for pid in children)


def test_an_index_survives_becoming_plain_data(made: Made) -> None:
    import json

    for name in ("late_sound.mp4", "rotated.mov", "variable.mp4", "bare.h264"):
        video = index_video(VideoFile(name=name, place=Place(uri=str(made(name)))))
        assert isinstance(video, IndexedVideo)
        values = indexed_to_dict(video)
        frames = values.pop("frames")
        assert isinstance(frames, bytes)
        assert indexed_from_dict({**json.loads(json.dumps(values)), "frames": frames}) == video


def test_names_that_are_no_unicode_pass_through(made: Made, tmp_path: Path) -> None:
    path = os.fsencode(tmp_path) + b"/\xff\xfe\n'\".mp4"
    with open(path, "wb") as file:
        file.write(made("b.mp4").read_bytes())
    name = os.fsdecode(path)
    with IndexPool(1) as pool:
        result = pool.index(VideoFile(name=name, place=Place(uri=name)))
        assert isinstance(result, IndexedVideo), result
        missing = pool.index(VideoFile(name=name + "2", place=Place(uri=name + "2")))
    assert isinstance(missing, Reject)
    assert (missing.name, missing.reason) == (name + "2", "missing")


def test_a_child_is_light() -> None:
    program = (
        "import sys, cineray.index.child\n"
        "heavy = {'torch', 'ray', 'lance', 'pyarrow', 'fsspec', 'pandas', 'torchcodec'} & set(sys.modules)\n"
        "status = dict(line.split(':') for line in open('/proc/self/status'))\n"
        "print(heavy, status['VmHWM'].split()[0])\n"
    )
    heavy, _, kib = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    ).stdout.rpartition(" ")
    assert heavy == "set()"
    assert int(kib) < 64 << 10


KILLED_WHILE_STARTING = """
import os, pathlib, signal, sys
tries = pathlib.Path(sys.argv[1])
tries.write_text(tries.read_text() + "x" if tries.exists() else "x")
if len(tries.read_text()) <= int(sys.argv[2]):
    os.kill(os.getpid(), signal.SIGKILL)
from cineray.index.child import serve
from cineray.index import index_video
serve(index_video)
"""


def test_a_child_that_is_killed_while_it_starts_is_started_again(made: Made, tmp_path: Path) -> None:
    tries = tmp_path / "tries"
    command = (sys.executable, "-c", KILLED_WHILE_STARTING, str(tries), "3")
    with IndexPool(1, child_command=command) as pool:
        found = pool.index(VideoFile(name="a", place=Place(uri=str(made("b.mp4")))))
    assert isinstance(found, IndexedVideo)
    assert tries.read_text() == "xxxx"


def test_children_that_are_always_killed_are_an_error(made: Made, tmp_path: Path) -> None:
    command = (sys.executable, "-c", KILLED_WHILE_STARTING, str(tmp_path / "tries"), "99")
    with IndexPool(1, child_command=command) as pool, pytest.raises(CinerayError, match="SIGKILL ended it each time"):
        pool.index(VideoFile(name="a", place=Place(uri=str(made("b.mp4")))))
    assert (tmp_path / "tries").read_text() == "xxxx"
