"""Small files that would take much memory or time: what is shared, recalled or opened again is counted each time."""

import io
import pickle
import warnings

import pytest
import torch
from nvidia_pickles import called, octets, text, whole
from test_hostile_checkpoints import LOAD, OBJECT, big, doubled, refused, saved, zipped

from ganvas import checkpoints
from ganvas.checkpoints import _torch
from ganvas.checkpoints._budget import ReadBudget
from ganvas.errors import GanvasError
from ganvas.generators.stylegan2.architecture import StyleGAN2Architecture
from ganvas.io.files import save_tensors

RECALL, DROP = b"h\x01", b"a"


def many(n: int, made: bytes) -> bytes:
    """A list of ``n`` times the value that ``made`` makes."""
    return b"]" + (made + DROP) * n


def stored(numbers: int) -> dict[str, bytes]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch would do without such storages
        return saved(torch.zeros(numbers).storage())


def test_one_list_made_into_many_sets_costs_steps(tmp_path):
    names = b"](" + b"".join(text(f"{i}") for i in range(20_000)) + b"eq\x01"
    content = many(1, names) + many(300, called("builtins", "set", RECALL)) + b"\x86"
    refused(tmp_path / "x.pkl", whole(content), "more steps or values")


def test_one_mapping_given_to_an_object_again_and_again_costs_steps(tmp_path):
    state = b"}(" + b"".join(text(f"{i}") + b"N" for i in range(20_000)) + b"uq\x01"
    network = called(*OBJECT, b"}(" + b"".join(map(text, ("type", "class", "class_name", "Generator"))) + b"u")
    content = many(1, state) + network + (RECALL + b"b") * 300 + b"\x86"
    refused(tmp_path / "x.pkl", whole(content), "more steps or values")


def test_a_storage_that_a_pickle_opens_again_and_again_costs_steps(tmp_path):
    inner = octets(zipped(stored(100_000).items())) + b"q\x01"
    once = called(*LOAD, inner)
    refused(tmp_path / "x.pkl", whole(many(1, once) + many(10, called(*LOAD, RECALL)) + b"\x86"), "no network")
    refused(tmp_path / "x.pkl", whole(many(1, once) + many(2000, called(*LOAD, RECALL)) + b"\x86"), "more steps")


def test_an_archive_of_many_files_inside_a_pickle_is_refused(tmp_path):
    inner = zipped([*stored(4).items(), *((f"{i}", b"") for i in range(50))])
    refused(tmp_path / "x.pkl", whole(called(*LOAD, octets(inner))), "too many files")


def test_tensors_that_share_their_numbers_are_bounded(tmp_path):
    one = torch.arange(1000.0)
    path = tmp_path / "x.pt"
    torch.save({"a": one, "b": one[10:], "n": torch.arange(5), "none": one[:0].reshape(0, 3)}, path)
    found = checkpoints.read_state_dict(path)
    assert torch.equal(found["b"], one[10:]) and found["none"].shape == (0, 3) and "n" not in found
    for shared in ([one.double()] * 3, [one[::500]] * 100):
        torch.save({f"{i}": value for i, value in enumerate(shared)}, path)
        with pytest.raises(GanvasError, match="numbers where 1,000 are stored"):
            checkpoints.read_state_dict(path)


def test_a_tensor_of_no_numbers_far_behind_its_storage_is_no_traceback():
    stored = _torch.StoredTensor(_torch.TorchStorage(torch.float32, 0), 5, (2, 0, 3), (3, 3, 1))
    assert stored.read(ReadBudget("x")).shape == (2, 0, 3)


@pytest.mark.parametrize("name", ["", "a.b"])
def test_modules_without_a_name_or_with_dots_in_it_are_refused(name, tmp_path):
    network = called(*OBJECT, b"}(" + b"".join(map(text, ("type", "class", "class_name", "Generator"))) + b"u")
    content = network + b"q\x02}" + text("_modules") + b"}" + text(name) + b"h\x02ssb"
    refused(tmp_path / "x.pkl", whole(content), "has a module called")


@pytest.mark.parametrize("size", [{"z_dim": 5000}, {"w_dim": 10**9}, {"mapping_layers": 5000}, {"widths": (8, 10**6)}])
def test_sizes_of_a_stylegan2_are_bounded_wherever_they_stand(size):
    with pytest.raises(GanvasError, match="at most 4096"):
        StyleGAN2Architecture(**({"resolution": 8, "widths": (8, 8)} | size))


def test_numbers_that_arent_finite_are_refused_in_ganvass_own_files_too(tmp_path):
    path, about = tmp_path / "g.safetensors", {"kind": "generator", "family": "mobilestylegan", "version": 1}
    save_tensors(path, {"a": torch.zeros(3), "b": torch.tensor([0.0, torch.nan])}, about)
    refused(path, path.read_bytes(), "aren't finite, in b")


def saved_with(content: bytes) -> bytes:
    """What torch.save writes, with this pickle in it."""
    return zipped((name, content if name.endswith("data.pkl") else data) for name, data in saved().items())


def test_an_allow_list_alone_lets_a_key_be_hashed_without_end(tmp_path):
    """Python's own unpickler hashes what is shared inside a key each time, torch's makes such keys: ours refuses them."""

    class Hashed:
        times = 0

        def __hash__(self):
            Hashed.times += 1
            return 0

    class Listed(pickle.Unpickler):
        def find_class(self, module, name):
            raise pickle.UnpicklingError(f"{module}.{name} isn't listed.")

        def persistent_load(self, pid):
            return Hashed()

    depth = 12
    Listed(io.BytesIO(whole(b"}" + text("x") + b"Q" + doubled(b"%s\x86", depth) + b"Ns"))).load()
    assert Hashed.times >= 2**depth
    nest = saved_with(whole(b"}N" + doubled(b"%s\x86", depth) + b"Ns", 2))
    (key,) = torch.load(io.BytesIO(nest), weights_only=True)
    assert isinstance(key, tuple)
    refused(tmp_path / "x.pt", nest, "other things than texts")


def test_an_allow_list_alone_lets_a_size_be_asked_for(tmp_path):
    """torch's list has ``bytearray``, which makes as many bytes as it is told; ours has nothing that takes a size."""
    content = saved_with(whole(b"cbuiltins\nbytearray\n" + big(2**20) + b"\x85R", 2))
    assert len(content) < 2000 and len(torch.load(io.BytesIO(content), weights_only=True)) == 2**20
    refused(tmp_path / "x.pt", content, "refers to builtins.bytearray")
