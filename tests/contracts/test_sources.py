"""Every source keeps the promises of `SourceContract`; here each says how it is made."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import lance
import pyarrow as pa
import pyarrow.parquet as pq
import webdataset

from cineray.source import Source, open_source
from cineray.testing.source_contract import SourceContract


def write_files(folder: Path, videos: dict[str, bytes]) -> None:
    for name, data in videos.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


class TestVideoFolder(SourceContract):
    def make(self, folder: Path, videos: dict[str, bytes]) -> tuple[Source, dict[str, bytes]]:
        write_files(folder, videos)
        return open_source(folder, kind="folder"), videos

    def make_with_missing(self, folder: Path, videos: dict[str, bytes]) -> tuple[Source, str]:
        source, _ = self.make(folder, videos)
        (folder / "metadata.csv").write_text("file_name,caption\ntrain/walk/0001.mp4,there\ntrain/walk/lost.mp4,gone\n")
        return source, "train/walk/lost.mp4"


class TestWebDataset(SourceContract):
    """Two shards by the `webdataset` library; the third of the pattern is not there in the missing case."""

    def make(self, folder: Path, videos: dict[str, bytes]) -> tuple[Source, dict[str, bytes]]:
        folder.mkdir(parents=True)
        expected = {}
        for shard in ("shard-00.tar", "shard-01.tar"):
            with webdataset.TarWriter(str(folder / shard), encoder=False) as writer:
                for name in sorted(videos)[int(shard == "shard-01.tar") :: 2]:
                    stem, _, kind = name.rpartition(".")
                    writer.write({"__key__": stem, kind: videos[name], "json": b'{"caption": "a clip"}'})
                    expected[f"{shard}::{name}"] = videos[name]
        return open_source(str(folder / "shard-{00..01}.tar")), expected

    def make_with_missing(self, folder: Path, videos: dict[str, bytes]) -> tuple[Source, str]:
        self.make(folder, videos)
        return open_source(str(folder / "shard-{00..02}.tar")), "shard-02.tar"


class TestManifest(SourceContract):
    """Three formats hold the same rows; files lie beside the manifest, two of them in one object."""

    suffix = "jsonl"

    def make(self, folder: Path, videos: dict[str, bytes]) -> tuple[Source, dict[str, bytes]]:
        write_files(folder / "clips", videos)
        rows = [{"uri": f"clips/{name}"} for name in sorted(videos)]
        expected = {f"clips/{name}": data for name, data in videos.items()}
        (folder / "joined.bin").write_bytes(b"0123456789")
        rows += [{"uri": "joined.bin", "offset": 2, "length": 3}, {"uri": "joined.bin", "offset": 7, "length": 3}]
        expected |= {"joined.bin[2+3]": b"234", "joined.bin[7+3]": b"789"}
        return open_source(self.write(folder, rows)), expected

    def make_with_missing(self, folder: Path, videos: dict[str, bytes]) -> tuple[Source, str]:
        source, _ = self.make(folder, videos)
        (folder / "clips" / "train" / "walk" / "0002.mp4").unlink()
        return source, "train/walk/0002.mp4"

    def write(self, folder: Path, rows: list[dict[str, object]]) -> Path:
        path = folder / f"manifest.{self.suffix}"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return path


class TestManifestInCsv(TestManifest):
    suffix = "csv"

    def write(self, folder: Path, rows: list[dict[str, object]]) -> Path:
        path = folder / "manifest.csv"
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, ["uri", "offset", "length"])
            writer.writeheader()
            writer.writerows(rows)
        return path


class TestManifestInParquet(TestManifest):
    suffix = "parquet"

    def write(self, folder: Path, rows: list[dict[str, object]]) -> Path:
        columns = {name: [row.get(name) for row in rows] for name in ("uri", "offset", "length")}
        path = folder / "manifest.parquet"
        pq.write_table(pa.table(columns), path)
        return path


class TestLanceTable(SourceContract):
    def make(self, folder: Path, videos: dict[str, bytes]) -> tuple[Source, dict[str, bytes]]:
        mark = {b"lance-encoding:blob": b"true"}
        schema = pa.schema([pa.field("name", pa.string()), pa.field("video", pa.large_binary(), metadata=mark)])
        names = sorted(videos)
        table = pa.table({"name": names, "video": [videos[name] for name in names]}, schema=schema)
        folder.mkdir(parents=True)
        lance.write_dataset(table, str(folder / "clips.lance"), max_rows_per_file=2)
        return open_source(folder / "clips.lance"), videos

    def make_with_missing(self, folder: Path, videos: dict[str, bytes]) -> tuple[Source, str]:
        source, _ = self.make(folder, videos)
        shutil.rmtree(folder / "clips.lance")
        return source, "clips.lance"
