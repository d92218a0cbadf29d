"""What a folder of shards says of its files: settings, checksums, sources, labels."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

import tfp_uqseg
from tfp_uqseg import _checks, _files
from tfp_uqseg.data import case as case_module
from tfp_uqseg.data import preprocess, records

INDEX, PARTIAL = "index.json", "index.partial.jsonl"
_KIND = "uqseg shards"
#: Of what stands in the files; others cannot be read.
_FORMAT = 1


@dataclasses.dataclass(frozen=True, eq=False)
class Index:
    """The index of a folder, whole or as far as it was prepared.

    Attributes:
        folder: The folder.
        settings: Plain values: modalities, preprocessing, regions, format, version.
        entries: Plain values of each case, by its id: the case and its source files,
            size, checksums and shape of its file, the label ids of its slices.
    """

    folder: Path
    settings: dict
    entries: dict[str, dict]

    def stored(self, case_id: str) -> records.StoredCase:
        """Return the case with this id."""
        values = dict(self.entries[case_id]["case"])
        for name in ("image_paths", "truth_paths"):
            paths = values[name].items()
            values[name] = {key: Path(path) for key, path in paths}
        shard = self.shard(case_id)
        images = values["image_paths"]
        values["image_paths"] = {name: images[name] for name in shard.modalities}
        values["label_path"] = values["label_path"] and Path(values["label_path"])
        values["rater_paths"] = tuple(Path(path) for path in values["rater_paths"])
        values["label_candidates"] = tuple(values["label_candidates"])
        return records.StoredCase(
            **values,
            shard=shard,
            preprocessing=preprocess.Preprocessing(**self.settings["preprocessing"]),
            regions=self.settings["regions"] and tuple(self.settings["regions"]),
        )

    def shard(self, case_id: str) -> records.Shard:
        """Return the file of the case with this id."""
        entry = self.entries[case_id]
        return records.Shard(
            case_id=case_id,
            path=self.folder / entry["file"],
            modalities=tuple(self.settings["modalities"]),
            shape=tuple(entry["shape"]),
            num_bytes=entry["bytes"],
            sha256=entry["sha256"],
            lengths=np.array(entry["lengths"], np.int64),
            crc32=np.array(entry["crc32"], np.uint32),
            id_types=entry["id_types"],
            present=entry["present"],
            by_slice=entry["by_slice"],
        )

    def renew(self, case: case_module.Case) -> None:
        """Take over what a case says today: its label scheme and where its files are.

        Raises:
            DataError: When its files are not those that it was prepared from.
        """
        entry = self.entries[case.id]
        paths = source_paths(case, self.settings["modalities"])
        for role in dict.fromkeys([*entry["sources"], *paths]):
            path = paths.get(role)
            if not _is_same(path, entry["sources"].get(role)):
                prepared = self.folder / entry["file"]
                where = "without a file now" if path is None else f"file {path}"
                raise _checks.DataError(
                    f"Case {case.id}, {where}: its {role} must be what {prepared} was "
                    "prepared from; that was another. Delete the prepared file to have "
                    "it made anew, or choose another folder."
                )
        sources = {
            role: {**entry["sources"][role], "mtime_ns": os.stat(path).st_mtime_ns}
            for role, path in paths.items()
        }
        self.entries[case.id] = {
            **entry,
            "case": _described(case),
            "sources": sources,
        }

    def write(self) -> None:
        """Write the whole index; the folder is then complete."""
        # A line per case: readable, and a tenth of the time of an indented file.
        lines = ",\n".join(json.dumps(entry) for entry in self.entries.values())
        head = json.dumps(self.settings)[:-1]
        content = f'{head}, "cases": [\n{lines}\n]}}\n'
        _files.write_text(self.folder / INDEX, content)
        (self.folder / PARTIAL).unlink(missing_ok=True)

    def write_partial(self) -> None:
        """Write what there is so far; the folder is incomplete until `write`."""
        lines = [self.settings, *self.entries.values()]
        content = "".join(f"{json.dumps(line)}\n" for line in lines)
        _files.write_text(self.folder / PARTIAL, content)

    def append_partial(self, case_id: str) -> None:
        """Note one more case behind what `write_partial` wrote."""
        with open(self.folder / PARTIAL, "a", encoding="utf-8") as file:
            file.write(f"{json.dumps(self.entries[case_id])}\n")


def settings_of(
    modalities: Iterable[str],
    regions: Sequence[str] | None,
    preprocessing: preprocess.Preprocessing,
) -> dict:
    """Return the settings of an index as plain values."""
    names = [case_module.canonical_modality(name) for name in modalities]
    return {
        "kind": _KIND,
        "format": _FORMAT,
        "version": tfp_uqseg.__version__,
        "modalities": names,
        "preprocessing": dataclasses.asdict(preprocessing),
        "regions": None if regions is None else list(regions),
    }


def is_shards(folder: str | os.PathLike) -> bool:
    """Return whether this is a folder of shards, complete or not."""
    opening = json.dumps({"kind": _KIND})[:-1]
    for name in (PARTIAL, INDEX):
        try:
            with open(Path(folder, name), encoding="utf-8", errors="replace") as file:
                if file.read(len(opening)) == opening:
                    return True
        except OSError:
            continue
    return False


def is_complete(folder: str | os.PathLike) -> bool:
    """Return whether all cases of a folder of shards were prepared."""
    return not Path(folder, PARTIAL).exists()


def read(folder: str | os.PathLike) -> Index:
    """Read the index of a folder of shards, of as many cases as there are.

    Raises:
        DataError: When it is damaged.
        ValueError: When it is of another format.
    """
    folder = Path(folder)
    path = folder / (INDEX if is_complete(folder) else PARTIAL)
    try:
        settings, entries = _parse(path)
        found = {entry["case"]["id"]: entry for entry in entries}
        if settings["format"] != _FORMAT:
            raise ValueError(
                f"{folder} must hold shards of format {_FORMAT}; got those of format "
                f"{settings['format']}, of tfp_uqseg {settings['version']}. Prepare "
                "the studies again in another folder."
            )
    except (json.JSONDecodeError, UnicodeError, KeyError, TypeError) as error:
        raise _checks.DataError(
            f"{path} must be as `uqseg prepare` wrote it; it is damaged ({error}). "
            "Delete the folder, and run `uqseg prepare` again."
        ) from error
    return Index(folder, settings, found)


def entry_of(case: case_module.Case, shard: records.Shard) -> dict:
    """Return the entry of a case that was written, with checksums of its sources."""
    paths = source_paths(case, shard.modalities)
    return {
        "case": _described(case),
        "file": shard.path.name,
        "bytes": shard.num_bytes,
        "sha256": shard.sha256,
        "shape": list(shard.shape),
        "lengths": shard.lengths.tolist(),
        "crc32": shard.crc32.tolist(),
        "id_types": dict(shard.id_types),
        "present": dict(shard.present),
        "by_slice": dict(shard.by_slice),
        "sources": {role: _source(path) for role, path in paths.items()},
    }


def source_paths(case: case_module.Case, modalities: Iterable[str]) -> dict[str, Path]:
    """Return the files that the slices of a case are made from, by what they are."""
    images = case.image_paths
    found = {name: images[name] for name in modalities if name in images}
    if case.label_path is not None:
        found["labels"] = case.label_path
    return found | {f"rater {n}": path for n, path in enumerate(case.rater_paths)}


def _parse(path: Path) -> tuple[dict, list[dict]]:
    text = path.read_text(encoding="utf-8")
    if path.name == INDEX:
        content = json.loads(text)
        return content, content.pop("cases")
    # What stands behind the last line break was cut off when the process ended.
    settings, *entries = [json.loads(line) for line in text.split("\n")[:-1]]
    return settings, entries


def _source(path: Path) -> dict:
    state = os.stat(path)
    return {
        "bytes": state.st_size,
        "mtime_ns": state.st_mtime_ns,
        "fingerprint": _files.fingerprint(path),
    }


def _is_same(path: Path | None, before: dict | None) -> bool:
    """Return whether a source file has the content that it had before."""
    if path is None or before is None:
        return False
    try:
        state = os.stat(path)
    except OSError:
        return False
    if state.st_size != before["bytes"]:
        return False
    # A copied file has another time: then the content decides.
    same_time = state.st_mtime_ns == before["mtime_ns"]
    return same_time or _files.fingerprint(path) == before["fingerprint"]


def _described(case: case_module.Case) -> dict:
    """Return plain values of a case, of which `Index.stored` makes one again."""
    values = dataclasses.asdict(case)
    for name in ("image_paths", "truth_paths"):
        paths = values[name].items()
        values[name] = {key: os.path.abspath(path) for key, path in paths}
    values["label_path"] = case.label_path and os.path.abspath(case.label_path)
    values["rater_paths"] = [os.path.abspath(path) for path in case.rater_paths]
    return values
