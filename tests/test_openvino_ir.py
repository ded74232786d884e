"""The converter against files made from a known state, and against broken ones."""

import re

import pytest
import tiny_networks
import torch

from ganvas.errors import GanvasError
from ganvas.generators.mobilestylegan import MobileStyleGAN
from ganvas.generators.openvino_ir import convert, read


@pytest.fixture(scope="module")
def planted():
    made = tiny_networks.state()
    return made, tiny_networks.files(made)


def test_finds_the_weights_that_were_written(planted):
    made, files = planted
    found = convert(*files)
    assert found.keys() == made.keys() | {"w_avg"}
    for key, value in made.items():
        assert torch.equal(found[key], value), key


def test_w_avg_is_the_mean_of_w(planted):
    network = MobileStyleGAN(convert(*planted[1]), "tiny")
    w = network.mapping(torch.randn(20_000, tiny_networks.DIM, generator=torch.Generator().manual_seed(1)))
    assert (w.mean(0) - network.w_avg).abs().max() < 0.05 * w.std(0).max()


def test_real_files_give_the_known_fingerprint(ffhq, ffhq_files):
    from ganvas.generators import find_card

    assert ffhq.fingerprint == find_card("ffhq").fingerprint
    with pytest.raises(GanvasError, match="cut short"):
        convert(*ffhq_files[:3], ffhq_files[3][:-1])


@pytest.mark.parametrize("kept", [0, 100, -1])
def test_short_bin(planted, kept):
    files = planted[1]
    with pytest.raises(GanvasError, match="the BIN is cut short"):
        convert(*files[:3], files[3][:kept])


@pytest.mark.parametrize("kept", [0, 1, 500, -1])
def test_short_xml(planted, kept):
    files = planted[1]
    with pytest.raises(GanvasError, match="XML is broken"):
        convert(files[0], files[1], files[2][:kept], files[3])


LAUGHS = '<!DOCTYPE net [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;">]><net version="10">&b;</net>'
CONST = '<net version="10"><layers><layer id="0" type="Const"><data {}/></layer></layers><edges/></net>'


@pytest.mark.parametrize(
    ("xml", "complaint"),
    [
        (LAUGHS.encode(), "declaration"),
        (LAUGHS.encode("utf-16"), "XML is broken"),
        (b'<net version="10"><!-- ' + b"x" * (4 << 20) + b" --></net>", "declaration"),
        (b'<net version="11"/>', "version '11'"),
        (b"<html/>", "'html'"),
        (CONST.format('element_type="f32" shape="4" offset="0" size="-16"').encode(), "'-16'"),
        (CONST.format('element_type="f32" shape="-4" offset="0" size="16"').encode(), "'-4'"),
        (CONST.format('element_type="f32" shape="4" offset="0" size="8"').encode(), "doesn't fit its shape"),
        (CONST.format('element_type="f32" shape="4" offset="1" size="16"').encode(), "ends at byte 17 of 16"),
        (
            CONST.format('element_type="f32" shape="999999999999, 999999999999" offset="0" size="8"').encode(),
            "doesn't fit its shape",
        ),
        (CONST.format('element_type="f64" shape="2" offset="0" size="16"').encode(), "'f64'"),
        (CONST.format('element_type="f32" shape="4" size="16"').encode(), "'None'"),
        (b'<net version="10"><layers/><edges><edge to-port="x"/></edges></net>', "'x'"),
        (
            b'<net version="10"><layers><layer id="1" type="Result"/></layers>'
            b'<edges><edge from-layer="9" to-layer="1" to-port="0"/></edges></net>',
            "don't exist: 9",
        ),
    ],
)
def test_hostile_xml(xml, complaint):
    with pytest.raises(GanvasError, match=re.escape(complaint)):
        read(xml, bytes(16))


def test_a_circle_ends():
    xml = (
        b'<net version="10"><layers><layer id="0" type="Result"/><layer id="1" type="PReLU"/>'
        b'<layer id="2" type="Const"><data element_type="f32" shape="1" offset="0" size="4"/></layer></layers><edges>'
        b'<edge from-layer="1" to-layer="0" to-port="0"/><edge from-layer="1" to-layer="1" to-port="0"/>'
        b'<edge from-layer="2" to-layer="1" to-port="1"/></edges></net>'
    )
    with pytest.raises(GanvasError, match="circle"):
        convert(*tiny_networks.files(tiny_networks.state())[:2], xml, torch.tensor(0.2).numpy().tobytes())


def test_networks_in_the_wrong_place(planted):
    files = planted[1]
    with pytest.raises(GanvasError):
        convert(*files[2:], *files[:2])


def test_numbers_that_are_not_finite(planted):
    made, _ = planted
    with pytest.raises(GanvasError, match="finite"):
        convert(*tiny_networks.files(made | {"conv.bias": made["conv.bias"] * float("nan")}))


def test_another_activation(planted):
    files = planted[1]
    slope = torch.tensor(0.2).numpy().tobytes()
    assert slope in files[3]
    with pytest.raises(GanvasError, match=r"should be 0\.2"):
        convert(*files[:3], files[3].replace(slope, torch.tensor(0.3).numpy().tobytes()))
