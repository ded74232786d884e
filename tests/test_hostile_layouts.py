"""Files that want to do harm in whole modules, bundles and archives: each is refused in one line, and nothing happens."""

import gzip
import io
import struct
import zipfile

import pytest
import torch
from nvidia_pickles import called, octets, text, whole
from stylegan2_layouts import as_module, save_whole
from test_hostile_checkpoints import (
    EXPLOITS,
    REBUILD,
    TOUCH,
    nothing_is_run,  # noqa: F401 (applies to every test)
    refused,
    saved,
    zipped,
)
from test_hostile_sizes import many, saved_with
from test_layouts import pack_tar, pack_zip

from ganvas import checkpoints
from ganvas.checkpoints._objects import is_layer_class
from ganvas.errors import GanvasError


def named(module: str, name: str, arguments: bytes = b")") -> bytes:
    """Opcodes that make an object of a class, as protocol 2 writes it."""
    return b"c" + module.encode() + b"\n" + name.encode() + b"\n" + arguments + b"\x81"


def module(weights: bytes = b"}", inner: bytes = b"}", kind: bytes = named("model", "Generator")) -> bytes:
    """Opcodes of a module with these parameters and inner modules, which lies at place 2 of the memo."""
    return kind + b"q\x02}(" + text("_parameters") + weights + text("_modules") + inner + b"ub"


CLASSES = {
    "torch.nn.modules.conv.Conv2d": True,
    "torch.nn.functional.relu": True,
    "torch.optim.adam.Adam": True,
    "model.Generator": True,
    "models.stylegan2.model.Generator": True,
    "__main__.Generator": True,
    "training.networks.SynthesisLayer": True,
    "os.System": False,
    "posix.System": False,
    "nt.System": False,
    "subprocess.Popen": False,
    "builtins.Exception": False,
    "__builtin__.Exception": False,
    "copy_reg.Constructor": False,
    "torch.Tensor": False,
    "torch.storage.UntypedStorage": False,
    "torch.hub.Load": False,
    "torch.utils.cpp_extension.CppExtension": False,
    "torch.nn.os.system.__globals__": False,
    "numpy.Array": False,
    "model.generator": False,
    "model.Generator.__init__": False,
    "model.__loader__": False,
    "model.Gen erator": False,
    "m\x1bodel.Generator": False,
    ".Generator": False,
    "m" * 300 + ".Generator": False,
}


@pytest.mark.parametrize("name", CLASSES)
def test_only_classes_outside_of_pythons_own_modules_are_accepted(name):
    assert is_layer_class(*name.rsplit(".", 1)) == CLASSES[name]


HOSTILE = {
    "a command": (called("posix", "system", TOUCH), "refers to posix.system"),
    "a command by a line": (b"cos\nsystem\n(" + TOUCH + b"tR", "refers to os.system"),
    "a command as a class": (named("subprocess", "Popen", b"(" + TOUCH + b"t"), "refers to subprocess.Popen"),
    "a command as a partial": (
        called("functools", "partial", text("os") + text("system") + b"\x93", TOUCH),
        "refers to os.system",
    ),
    "a command as an attribute": (
        module(b"}" + text("weight") + called("nt", "system", TOUCH) + b"s"),
        "refers to nt.system",
    ),
    "a class with arguments": (named("model", "Generator", b"(" + TOUCH + b"t"), "calls model.Generator"),
    "a call of a class with arguments": (called("model", "Generator", TOUCH), "calls model.Generator"),
    "a call of an object": (module() + b")R", "calls something that isn't a name"),
    "a dotted class": (called("model", "Generator.forward"), "refers to model.Generator.forward"),
    "a function of torch's": (called("torch", "load", TOUCH), "refers to torch.load"),
    "a type that takes a size": (called("builtins", "bytearray", b"\x8a\x08" + struct.pack("<q", 2**40)), "bytearray"),
    "a type that is only named": (called("builtins", "list", b"]"), "calls builtins.list"),
    "a text of other characters": (called("_codecs", "encode", text("Ā"), text("latin1")), "isn't a text of bytes"),
    "another encoding": (called("_codecs", "encode", text("a"), text("zlib")), "isn't a text of bytes"),
    "a module that holds itself": (module(inner=b"}" + text("a") + b"h\x02s"), "nests more modules"),
    "a module with a dot in its name": (
        module(inner=b"}" + text("a.b") + named("model", "Layer") + b"}b" + b"s"),
        "has a module called",
    ),
    "a tensor of impossible sizes": (
        module(b"}" + text("weight") + called(*REBUILD, b"N", b"K\x00", b"K\x02\x85", b"K\x01\x85") + b"s"),
        "impossible values",
    ),
    "a key that is a nest": (b"}" + b"N" + b"\x85" * 50 + b"Ns", "other things than texts"),
    "items of an object by a nest": (
        named("model", "Options") + b"N" + b"\x85" * 50 + b"Ns",
        "other things than texts",
    ),
    "a persistent id of no class": (
        b"(" + text("module") + text("os") + text("x") + text("y") + b"tQ",
        "no storage's",
    ),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_modules_are_refused(kind, tmp_path):
    content, words = HOSTILE[kind]
    refused(tmp_path / "x.pt", saved_with(whole(content, 2)), words)
    if kind != "a tensor of impossible sizes":
        refused(tmp_path / "x.pt", saved_with(whole(b"}" + text("g_ema") + content + b"s", 2)), words)
    refused(tmp_path / "x.pt", gzip.compress(pack_tar({"g.pt": saved_with(whole(content, 2))})), words)


def test_one_module_inside_of_many_costs_steps(tmp_path):
    inner = (
        b"}("
        + b"".join(text(f"{i}") + named("model", "Layer") + b"}" + text("_modules") + b"}sb" for i in range(900))
        + b"u"
    )
    shared = text("x") + module(inner=inner)
    same = b"".join(text(f"{i}") + b"h\x02" for i in range(5000))
    refused(tmp_path / "x.pt", saved_with(whole(b"}(" + shared + same + b"u", 2)), "no named tensors|card")
    outer = named("model", "Layer") + b"}" + text("_modules") + b"}" + text("a") + b"h\x02ssb"
    others = b"".join(text(f"{i}") + outer for i in range(1000))
    refused(tmp_path / "x.pt", saved_with(whole(b"}(" + shared + others + b"u", 2)), "more steps or values")


def test_one_text_encoded_many_times_costs_steps(tmp_path):
    line = b"]" + text("x" * 10**6) + b"q\x01a"
    content = line + many(4000, called("_codecs", "encode", b"h\x01")) + b"\x86"
    refused(tmp_path / "x.pt", saved_with(whole(content, 2)), "more steps or values")


def test_a_file_of_many_generators_is_refused(tmp_path):
    names = ("input.input", "style.1.weight", "conv1.conv.modulation.weight", "to_rgb1.conv.weight")
    torch.save({f"{i}.{name}": torch.zeros(1) for i in range(100) for name in names}, tmp_path / "x.pt")
    refused(tmp_path / "x.pt", (tmp_path / "x.pt").read_bytes(), "more than 64 generators")


def test_names_without_end_take_no_time(tmp_path):
    part = torch.zeros(1)
    for prefix in ("module." * 25, "a." * 90, "layers.0." * 20, "decoder" * 25):
        value = {f"{prefix}{i}": part for i in range(6000)}
        torch.save(value, tmp_path / "x.pt")
        refused(tmp_path / "x.pt", (tmp_path / "x.pt").read_bytes(), ".")


BOMB = gzip.compress(b"\0" * (64 << 20))


def lying_tar(size: bytes) -> bytes:
    content = bytearray(pack_tar({"g.pt": b"x" * 600}))
    content[124:136] = size.ljust(12, b"\0")
    return bytes(content)


ARCHIVES = {
    "a bomb in gzip": (BOMB, "unpacks to more than"),
    "a bomb in a zip": (pack_zip({"g.pt": b"\0" * (64 << 20)}), "unpacks to 67,108,864 bytes"),
    "a bomb in gzip in a zip": (pack_zip({"g.gz": BOMB}, zipfile.ZIP_STORED), "unpacks to more than"),
    "gzip in gzip in gzip in gzip": (
        gzip.compress(gzip.compress(gzip.compress(gzip.compress(b"x")))),
        "not a checkpoint that ganvas reads",
    ),
    "gzip that is cut short": (BOMB[:5000], "unpacks to more|cut short"),
    "gzip that is damaged": (b"\x1f\x8b\x08\0\0\0\0\0\0\0\xff\xff\xff", "damaged"),
    "a file of another size in tar": (lying_tar(b"00077777777"), "cut short"),
    "a file of 2⁶³ bytes in tar": (lying_tar(b"777777777777"), "cut short"),
    "a negative size in tar": (lying_tar(b"-0000000001"), "damaged"),
    "a size in other digits in tar": (lying_tar(b"\x80\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"), "damaged"),
    "a size that isn't octal": (lying_tar(b"99999999999"), "impossible size"),
    "a path up in a zip": (pack_zip({"../owned.pt": b"x"}), "archive with the path"),
    "a path in a tar": (pack_tar({"../../owned.pt": b"x"}), r"\(../../owned.pt in it\) is a server's answer"),
    "a name with control characters": (pack_tar({"\x1b[2J.pt": b"x"}), r"\\x1b\[2J.pt"),
    "an exploit in gzip": (gzip.compress(EXPLOITS[1]), "refers to (posix|nt).system"),
    "an exploit in a zip": (pack_zip({"g.pkl": EXPLOITS[2]}), "refers to (posix|nt).system"),
    "an exploit in a tar": (pack_tar({"g.pkl": EXPLOITS[0]}), "refers to (posix|nt).system"),
    "a program in a zip": (
        pack_zip({"g.pt": zipped([*saved().items(), ("archive/code/__torch__.py", b"x")])}),
        "TorchScript",
    ),
}


@pytest.mark.parametrize("kind", ARCHIVES)
def test_hostile_archives_are_refused(kind, tmp_path):
    refused(tmp_path / "x.pt", *ARCHIVES[kind])


def test_a_zip_that_lies_of_its_size_is_refused(tmp_path):
    content = bytearray(pack_zip({"g.pt": b"\0" * (32 << 20)}))
    for at in (content.index(b"PK\x01\x02") + 24, 22):  # in the directory, and before the file
        content[at : at + 4] = struct.pack("<I", 100)
    refused(tmp_path / "x.pt", bytes(content), "can't be read")


def test_a_zip_with_a_password_is_refused(tmp_path):
    content = bytearray(pack_zip({"g.pt": b"x" * 100}))
    content[content.index(b"PK\x01\x02") + 8] |= 1
    refused(tmp_path / "x.pt", bytes(content), "password")


def test_every_cut_archive_and_module_is_refused(tmp_path):
    save_whole(as_module({"style.1.weight": torch.zeros(2, 2)}), tmp_path / "x.pt")
    stream = (tmp_path / "x.pt").read_bytes()
    for content in (gzip.compress(stream), pack_zip({"g.pt": stream}), pack_tar({"g.pt": stream})):
        for size in range(1, len(content) - 1, max(len(content) // 20, 1)):
            if content[257:262] == b"ustar" and size > 512 + len(stream):
                continue  # only the zeros at its end are cut
            refused(tmp_path / "x.pt", content[:size], "checkpoint|cut short|damaged")


def test_every_changed_byte_of_a_module_is_survived(tmp_path):
    content = whole(module(b"}" + text("weight") + b"Ns"), 2)
    for i in range(0, len(content)):
        for value in (0, 82):
            (tmp_path / "x.pt").write_bytes(saved_with(content[:i] + bytes([value]) + content[i + 1 :]))
            with pytest.raises(GanvasError):
                checkpoints.read(tmp_path / "x.pt")


def test_octets_that_a_file_holds_are_no_network(tmp_path):
    refused(tmp_path / "x.pt", whole(octets(b"x") + b"q\x01"), "no network")
    stream = io.BytesIO()
    torch.save([1, 2], stream)
    refused(tmp_path / "x.pt", stream.getvalue(), "no named tensors")
