"""Files that want to do harm: each is refused in one line, fast, and nothing happens."""

import io
import os
import pickle
import struct
import time
import zipfile

import pytest
import torch
from nvidia_pickles import called, octets, older, storage, text, whole

from ganvas import checkpoints
from ganvas.checkpoints import _pickle, _torch
from ganvas.checkpoints._budget import ReadBudget
from ganvas.errors import GanvasError

OBJECT = ("torch_utils.persistence", "_reconstruct_persistent_obj")
LOAD = ("torch.storage", "_load_from_bytes")
REBUILD = ("torch._utils", "_rebuild_tensor_v2")


class Shell:
    """Runs a command where it is unpickled."""

    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self):
        return os.system, (self.command,)


EXPLOITS = [pickle.dumps({"G_ema": Shell("touch owned")}, protocol) for protocol in (2, 3, 4, 5)]


@pytest.fixture(autouse=True)
def nothing_is_run(monkeypatch):
    """Python's own unpickler, torch's, and the functions that the files ask for are all out of reach."""

    def never(*arguments, **named):
        raise AssertionError("a file was run")

    for home, name in (
        (pickle, "loads"),
        (pickle, "load"),
        (pickle, "Unpickler"),
        (torch, "load"),
        (os, "system"),
        (zipfile.ZipFile, "extract"),
        (zipfile.ZipFile, "extractall"),
    ):
        monkeypatch.setattr(home, name, never)


def refused(path, content, words):
    path.write_bytes(content)
    began = time.process_time()
    with pytest.raises(GanvasError, match=words) as caught:
        checkpoints.read(path)
    assert time.process_time() - began < 10
    message = str(caught.value)
    assert "\n" not in message and len(message) < 600 + 2 * len(str(path)) and message.isprintable()
    assert sorted(p.name for p in path.parent.iterdir()) == [path.name]


def tensor(numel: bytes, shape: bytes, stride: bytes, data: bytes = older(storage())) -> bytes:
    return called(*REBUILD, called(*LOAD, octets(data)), numel, shape, stride, b"\x89", b"N")


def big(number: int) -> bytes:
    return b"\x8a\x08" + struct.pack("<q", number)


def doubled(step: bytes, times: int = 60) -> bytes:
    """Opcodes that make of the top value one with it twice inside, ``times`` times; ``step`` has one %s for each but one."""
    made = b""
    for i in range(times):
        recall = b"h" + bytes([i])
        made += b"q" + bytes([i]) + step.replace(b"%s", recall)
    return made


TOUCH = text("touch owned")
HOSTILE = {
    "os.system through reduce": (whole(called("posix", "system", TOUCH)), "refers to posix.system"),
    "os.system by a line": (whole(b"cos\nsystem\n(" + TOUCH + b"tR"), "refers to os.system"),
    "eval": (whole(called("builtins", "eval", text("1"))), "refers to builtins.eval"),
    "exec in Python 2's words": (whole(b"c__builtin__\nexec\n(" + TOUCH + b"tR", 2), "refers to __builtin__.exec"),
    "a chain of getattr": (
        whole(called("builtins", "getattr", called("builtins", "__import__", text("os")), text("system"))),
        "refers to builtins.__import__|refers to builtins.getattr",
    ),
    "a dotted name": (whole(called(OBJECT[0], f"{OBJECT[1]}.__globals__")), "__globals__, which no"),
    "a dotted module": (whole(called("torch.storage.os", "system", TOUCH)), "refers to torch.storage.os.system"),
    "torch.load": (whole(called("torch", "load", text("x"))), "refers to torch.load"),
    "a function beside a listed one": (
        whole(called("torch._utils", "_import_dotted_name", text("os.system"))),
        "refers to torch._utils._import_dotted_name",
    ),
    "a class beside a listed one": (whole(called("torch.storage", "UntypedStorage", b"K\x08")), "UntypedStorage"),
    "numpy's other function": (whole(called("numpy.core.multiarray", "_reconstruct")), "multiarray._reconstruct"),
    "a class made anew": (whole(b"csubprocess\nPopen\n(" + TOUCH + b"t\x81"), "refers to subprocess.Popen"),
    "a class with keywords": (whole(b"ccollections\nOrderedDict\n)}\x92"), "opcode NEWOBJ_EX"),
    "an instance": (whole(b"(" + TOUCH + b"ios\nsystem\n"), "opcode INST"),
    "an object": (whole(b"(cos\nsystem\n" + TOUCH + b"o"), "refers to os.system"),
    "an extension": (whole(b"\x82\x01)R"), "opcode EXT1"),
    "a persistent id": (whole(text("x") + b"Q"), "persistent id where none belongs"),
    "a persistent id in text": (whole(b"Px\n"), "opcode PERSID"),
    "a buffer outside": (whole(b"\x97", 5), "opcode NEXT_BUFFER"),
    "a call of a text": (whole(TOUCH + b")R"), "calls something that isn't a name"),
    "a call of a result": (whole(called("builtins", "set") + b")R"), "calls something that isn't a name"),
    "a call of a storage's type": (whole(called("torch", "FloatStorage", big(2**40))), "refers to torch.FloatStorage"),
    "attributes of a function": (
        whole(text(OBJECT[0]) + text(OBJECT[1]) + b"\x93}" + text("__code__") + b"Nsb"),
        "isn't a container",
    ),
    "a pickle inside a tensor's bytes": (
        whole(called(*LOAD, octets(whole(called("posix", "system", TOUCH))))),
        "refers to posix.system",
    ),
    "the same behind its head": (
        whole(called(*LOAD, octets(older(called("posix", "system", TOUCH))))),
        "refers to posix.system",
    ),
    "the same within its head": (
        whole(called(*LOAD, octets(older(storage(), head=text("x") + called("posix", "system", TOUCH))))),
        "refers to posix.system",
    ),
    "a tensor's bytes inside a tensor's bytes": (
        whole(called(*LOAD, octets(older(called(*LOAD, octets(older(storage()))))))),
        "refers to torch.storage._load_from_bytes",
    ),
    "a storage of an unlisted type": (
        whole(called(*LOAD, octets(older(storage(kind="load"))))),
        "refers to torch.load",
    ),
    "names with control characters": (whole(called("os\x1b[2J\n", "x" * 10_000)), r"refers to os\\x1b"),
    # Too large.
    "a storage that isn't there": (
        whole(called(*LOAD, octets(older(storage(numel=big(2**39)), numel=2**39)))),
        "cut short",
    ),
    "a storage of a negative size": (whole(called(*LOAD, octets(older(storage(numel=big(-4)))))), "impossible size"),
    "a tensor of one number": (
        whole(tensor(b"K\x00", big(10**6) * 2 + b"\x86", b"K\x00K\x00\x86")),
        "tensor of 1,000,000,000,000 numbers where 4",
    ),
    "a tensor beyond its storage": (whole(tensor(b"K\x02", b"K\x04\x85", b"K\x01\x85")), "4 numbers where 4 are"),
    "a tensor before its storage": (
        whole(tensor(b"J\xff\xff\xff\xff", b"K\x04\x85", b"K\x01\x85")),
        "impossible values",
    ),
    "a tensor of many axes": (
        whole(tensor(b"K\x00", b"(" + b"K\x01" * 99 + b"t", b"(" + b"K\x01" * 99 + b"t")),
        "99 axes",
    ),
    "a text of 4 GB": (whole(b"X\xff\xff\xff\xff"), "cut short"),
    "bytes of 2⁶⁰": (whole(b"\x8e" + struct.pack("<Q", 2**60)), "cut short"),
    "a number of 2 GB": (whole(b"\x8b\xff\xff\xff\x7f"), "opcode LONG4"),
    "a number of 255 bytes": (whole(b"\x8a\xff" + b"\x7f" * 255), "integer of 255 bytes"),
    # Bombs.
    "lists of lists of lists": (whole(b"](" + b"N" * 10 + b"e" + doubled(b"](%s%se")), "no network"),
    "a key that is a nest of tuples": (whole(b"}N" + doubled(b"%s\x86") + b"Ns"), "other things than texts"),
    "a set of a nest of tuples": (
        whole(called("builtins", "set", b"](" + b"N" + b"\x85" * 9 + b"e")),
        "isn't of names",
    ),
    "a kind of number that is a nest": (whole(called("numpy", "dtype", b"N" + doubled(b"%s\x86"))), "a tuple"),
    "a kind of number that is changed afterwards": (
        whole(
            called(
                "numpy.core.multiarray",
                "scalar",
                called("numpy", "dtype", text("f4")) + b"}" + text("code") + b"K\x05sb",
                octets(b"\0" * 4),
            )
        ),
        "NumPy's type 5",
    ),
    "a clamp that is a nest": (whole(b"N" + doubled(b"%s\x86")), "no network"),
    "a mapping that holds itself": (whole(b"}q\x00" + text("a") + b"h\x00s"), "no network"),
    "a network that holds itself": (
        whole(
            called(*OBJECT, b"}(" + b"".join(map(text, ("type", "class", "class_name", "Generator"))) + b"u")
            + b"q\x02}"
            + text("_modules")
            + b"}"
            + text("a")
            + b"h\x02ssb"
        ),
        "nests more modules",
    ),
    "an opcode of Python 1": (whole(b"(l"), "opcode LIST"),
    "marks without end": (whole(b"(" * 10**6), "nests more than 100"),
    "nests without end": (whole(b"N" + b"\x85" * 10**5), "no network"),
    "values without end": (whole(b"N" * 200_000), "more steps or values"),
    "a place in the memo of 2³²": (whole(b"]r\xff\xff\xff\xff"), "no network"),
    # Broken.
    "nothing given": (whole(b"s"), "empty stack"),
    "nothing given inside of containers": (whole(b"(K\x01(\x85"), "empty stack"),
    "nothing opened": (whole(b"u"), "never opened"),
    "nothing to recall": (whole(b"h\x09"), "never stored"),
    "a key without a value": (whole(b"}(" + text("a") + b"u"), "without a value"),
    "no UTF-8": (whole(b"X\x01\x00\x00\x00\xff"), "UTF-8"),
    "a wrong call": (whole(called(*OBJECT, b"N", b"N", b"N")), "with the wrong arguments"),
    "protocol 0": (b"\x80\x00.", "pickle protocol 0"),
    "protocol 9": (whole(b"N", 9), "pickle protocol 9"),
    "an unknown opcode": (whole(b"\xff"), "opcode 0xff"),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_pickles_are_refused(kind, tmp_path):
    refused(tmp_path / "x.pkl", *HOSTILE[kind])


def test_a_real_exploit_is_refused(tmp_path):
    for content in EXPLOITS:
        refused(tmp_path / "x.pkl", content, "refers to (posix|nt).system")


def saved(value=None) -> dict[str, bytes]:
    stream = io.BytesIO()
    torch.save({"a": torch.zeros(3)} if value is None else value, stream)
    with zipfile.ZipFile(stream) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def zipped(entries, packing=zipfile.ZIP_STORED) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", packing) as archive:
        for name, content in entries:
            archive.writestr(zipfile.ZipInfo(name) if packing == zipfile.ZIP_STORED else name, content)
    return stream.getvalue()


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_hostile_archives_are_refused(tmp_path):
    path, good = tmp_path / "x.pt", saved()
    head = next(name for name in good if name.endswith("data.pkl"))
    root, plain = head.removesuffix("data.pkl"), list(good.items())
    path.write_bytes(zipped(plain))
    with pytest.raises(GanvasError, match="without a card"):  # as it is, it can be read
        checkpoints.read(path)
    for name in ("../owned", f"{root}../../owned", "/etc/owned", "C:\\owned", f"{root}data/..\\owned"):
        refused(path, zipped([*plain, (name, b"x")]), "archive with the path")
    refused(path, zipped([(n, EXPLOITS[0] if n == head else c) for n, c in plain]), "refers to (posix|nt).system")
    refused(path, zipped([*plain, (f"{root}code/__torch__.py", b"x")]), "TorchScript")
    refused(path, zipped([*plain, *plain]), "two files of one name")
    refused(path, zipped([(head, b"\0" * 10**7)], zipfile.ZIP_DEFLATED), "unpacks to more")
    refused(path, zipped([*plain, ("big", os.urandom(10**5))], zipfile.ZIP_DEFLATED), "compressed")
    refused(path, zipped([(n, c) for n, c in plain if "data/0" not in n]), "missing or cut short")
    refused(path, zipped([(n, c[:4]) if n.endswith("data/0") else (n, c) for n, c in plain]), "missing or cut short")
    refused(path, zipped([(n, b"big") if n.endswith("byteorder") else (n, c) for n, c in [*plain]]), "little-endian")
    refused(path, zipped([("a/b", b"x")]), r"\(a/b in it\) is a server's answer .*, not a checkpoint")
    refused(path, zipped([*plain, ("b/data.pkl", plain[0][1])]), "without the one data.pkl")
    damaged = bytearray(zipped(plain))
    damaged[damaged.index(b"\x80\x02}")] ^= 1
    refused(path, bytes(damaged), "can't be read")


@pytest.mark.parametrize("modern", [True, False])
def test_every_cut_file_is_refused(modern, tmp_path):
    stream = io.BytesIO()
    torch.save({"a": torch.arange(5.0), "b": torch.zeros(2, 3)}, stream, _use_new_zipfile_serialization=modern)
    content = stream.getvalue()
    for size in {*range(0, len(content) - 1, max(len(content) // 60, 1)), len(content) - 1}:
        refused(tmp_path / "x.pt", content[:size], "whole checkpoint|not a checkpoint|cut short")


def test_every_changed_byte_of_a_pickle_is_survived(tmp_path):
    """Whatever a byte is changed to: a GanvasError, or a reading; never another error, never a run."""
    content = whole(tensor(b"K\x00", b"K\x02K\x02\x86", b"K\x02K\x01\x86") + b"q\x00" + called("builtins", "set"))
    for i in range(0, len(content), 2):
        for value in (0, 82):
            changed = content[:i] + bytes([value]) + content[i + 1 :]
            with pytest.raises(GanvasError):
                checkpoints.read(_file(tmp_path / "x.pkl", changed))


def _file(path, content):
    path.write_bytes(content)
    return path


def test_steps_are_bounded_those_of_pickles_inside_included():
    def run(content, steps):
        vocabulary = {LOAD: lambda data: _torch.read_storage(data, budget)}
        budget = ReadBudget("x", steps)
        return _pickle.PickleMachine(memoryview(content), vocabulary, budget).run()

    inner = whole(called(*LOAD, octets(older(storage()))))
    assert run(inner, 100).size == 4
    for content in (inner, whole(b"]" + b"q\x00" * 20)):
        with pytest.raises(GanvasError, match="more steps or values"):
            run(content, 20)


def test_tensors_together_are_bounded(monkeypatch, tmp_path):
    monkeypatch.setattr(_torch, "MAX_NUMBERS", 10)
    budget = ReadBudget("x")
    one = _torch.StoredTensor(_torch.TorchStorage(torch.float32, 8, lambda: memoryview(bytes(32))), 0, (8,), (1,))
    assert _torch.read_tensors({"a": one}, budget)["a"].shape == (8,)
    with pytest.raises(GanvasError, match="16 numbers"):
        _torch.read_tensors({"a": one, "b": one}, budget)


def test_a_huge_file_is_refused_before_it_is_read(monkeypatch, tmp_path):
    monkeypatch.setattr(checkpoints, "MAX_FILE_BYTES", 100)
    refused(tmp_path / "x.pkl", b"\x80" * 101, "at most 100 are read")
