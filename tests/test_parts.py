"""Parts of faces: what of a picture is hair, face or neither, and edits that are kept to one of them."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from planted_truth import TOY

import ganvas
from ganvas import sample
from ganvas.errors import GanvasError
from ganvas.generators import regions
from ganvas.generators.base import Generator
from ganvas.generators.parts import PARTS, PartReader, load_part_reader, save_part_reader, select_members
from ganvas.generators.regions import (
    EditedParts,
    Region,
    blend_edit,
    build_edit_mask,
    extend_background,
    find_edited_parts,
    find_regions,
    load_regions,
)
from ganvas.inversion.alignment import find_faces
from ganvas.recipe.model import EditStep, FromSeed, Recipe
from ganvas.recipe.rendering import compute_code, compute_unedited_code, limit_to_regions, load_tools, render

SIDE = 64
EVERYWHERE = Region((0.5, 0.5, 1.0, 1.0), parts=("hair",))
LARGEST = {"eyes": 0.20, "mouth": 0.15, "face": 0.45, "beard": 0.45, "hair": 0.60, "skin": 0.45, "person": 0.75}
"""The largest share of a picture that a region limited to parts may hold, in the mean over faces."""


def plant_parts(hair: slice, face: slice) -> torch.Tensor:
    """Return parts whose columns ``hair`` and ``face`` are surely these, in the rows above the shoulders."""
    parts = torch.zeros(1, len(PARTS), SIDE, SIDE)
    parts[:, PARTS.index("hair"), : SIDE // 2, hair] = 1
    parts[:, PARTS.index("face"), : SIDE // 2, face] = 1
    return parts


BEFORE = plant_parts(slice(8, 24), slice(24, 40))
AFTER = plant_parts(slice(16, 24), slice(24, 40))
"""Hair that an edit makes shorter: what lies left of it is uncovered."""


def test_skin_keeps_its_tone_and_what_is_drawn_on_it_its_colours():
    faces = plant_parts(slice(0, 0), slice(16, 48))
    before = torch.zeros(1, 3, SIDE, SIDE)
    before[..., : SIDE // 2, 16:48] = torch.tensor([0.2, 0.0, -0.2])[:, None, None]
    after = before + torch.tensor([0.3, 0.2, 0.1])[:, None, None]  # a lighter picture
    after[..., 10:14, 20:44] = -1.0  # glasses
    region = Region((0.5, 0.5, 1.0, 1.0), parts=("face",), keeps_tone=True)
    picture = blend_edit(before, after, [region], EditedParts(faces, faces))
    torch.testing.assert_close(picture[..., 20:28, 22:42], before[..., 20:28, 22:42], atol=0.02, rtol=0)
    assert picture[..., 11:13, 24:40].mean() < -0.8
    light = blend_edit(before, after, [replace(region, keeps_tone=None)], EditedParts(faces, faces))
    torch.testing.assert_close(light[..., 20:28, 22:42], after[..., 20:28, 22:42], atol=0.02, rtol=0)
    other = Region((0.5, 0.5, 1.0, 1.0), parts=("face",))  # as for an edit of the skin, too
    both = blend_edit(before, after, [region, other], EditedParts(faces, faces))
    torch.testing.assert_close(both, light)
    hair = Region((0.5, 0.1, 0.2, 0.1), parts=("hair",))  # whatever else is edited, skin stays
    eyes = Region((0.5, 0.2, 0.2, 0.1))
    several = blend_edit(before, after, [region, hair, eyes], EditedParts(faces, faces))
    torch.testing.assert_close(several[..., 20:28, 22:42], picture[..., 20:28, 22:42], atol=0.02, rtol=0)


def test_a_face_grows_below_its_eyes_and_not_into_a_hat():
    before, after = (torch.zeros(1, len(PARTS), SIDE, SIDE) for _ in range(2))
    before[:, PARTS.index("face"), 24:50, 16:48] = 1
    after[:, PARTS.index("face"), 8:58, 16:48] = 1
    old, new = torch.full((1, 3, SIDE, SIDE), 0.5), torch.full((1, 3, SIDE, SIDE), -1.0)
    region = Region((0.5, 0.5, 1.0, 1.0), parts=("face",))
    picture = blend_edit(old, new, [region], EditedParts(before, after))
    assert torch.equal(picture[..., 8:20, 20:44], old[..., 8:20, 20:44])
    torch.testing.assert_close(picture[..., 48:53, 24:40], new[..., 48:53, 24:40], atol=0.15, rtol=0)


def test_where_no_background_is_left_the_edited_picture_shows():
    before, after = torch.full((1, 3, SIDE, SIDE), 0.5), torch.full((1, 3, SIDE, SIDE), -1.0)
    full, none = torch.zeros(1, len(PARTS), SIDE, SIDE), torch.zeros(1, len(PARTS), SIDE, SIDE)
    full[:, PARTS.index("hair")] = 1
    picture = blend_edit(before, after, [EVERYWHERE], EditedParts(full, none))
    torch.testing.assert_close(picture[..., 24:40, 24:40], after[..., 24:40, 24:40], atol=1e-4, rtol=0)


def test_shorter_hair_uncovers_the_background_and_leaves_the_rest():
    before = torch.full((1, 3, SIDE, SIDE), 0.5)
    before[..., : SIDE // 2, 8:24], before[..., : SIDE // 2, 24:40] = -0.5, 0.0
    after = torch.full_like(before, -1.0)
    parts = EditedParts(BEFORE, AFTER)
    picture = blend_edit(before, after, [EVERYWHERE], parts)
    outside = (build_edit_mask([EVERYWHERE], parts, SIDE, SIDE) == 0).expand_as(before)
    assert torch.equal(picture[outside], before[outside])
    assert outside[..., :, 48:].all() and outside[..., : SIDE // 2, 28:36].all()  # the background, and the face
    assert picture[..., 4:24, 18:22].mean() < -0.7  # the hair that is left is drawn anew
    torch.testing.assert_close(picture[..., 4:24, 10:12], before[..., 4:24, :2], atol=0.15, rtol=0)


def test_an_edit_without_parts_is_the_whole_ellipse():
    before, after = torch.zeros(1, 3, SIDE, SIDE), torch.ones(1, 3, SIDE, SIDE)
    torch.testing.assert_close(blend_edit(before, after, [EVERYWHERE]), after, atol=1e-5, rtol=0)
    assert find_edited_parts(TOY, [EVERYWHERE], *[sample(TOY, 1)] * 2) is None


@pytest.mark.parametrize(("height", "width"), [(64, 64), (37, 90), (1, 5)])
def test_filling_keeps_what_is_known_and_continues_it(height, width):
    images = torch.rand((1, 3, height, width), generator=torch.Generator().manual_seed(1))
    known = (torch.arange(width) < (width + 1) // 2).float().expand(1, 1, height, width)
    filled = extend_background(images, known)
    assert torch.equal(filled[..., : (width + 1) // 2], images[..., : (width + 1) // 2])
    flat = torch.full_like(images, 0.25)
    noisy = torch.where(known == 1, flat, images)
    if height > 1:
        torch.testing.assert_close(extend_background(noisy, known), flat)


def test_a_file_of_parts_comes_back_and_others_are_refused(tmp_path):
    members = select_members({"hair": (0,), "face": (1, 2), "outline": ()}, 4)
    random = torch.Generator().manual_seed(3)
    reader = PartReader(torch.zeros(5), torch.ones(5), torch.randn(4, 5, generator=random).half().float(), members, 8)
    save_part_reader(tmp_path / "parts.safetensors", reader, "a" * 64)
    features = torch.randn(2, 5, 8, 8, generator=random)
    again = load_part_reader(tmp_path / "parts.safetensors", "a" * 64)
    assert torch.equal(again(features), reader(features)) and again.side == 8
    with pytest.raises(GanvasError, match="another generator"):
        load_part_reader(tmp_path / "parts.safetensors", "b" * 64)
    save_part_reader(
        tmp_path / "wrong.safetensors", PartReader(torch.zeros(4), torch.ones(5), reader.clusters, members, 8), "a"
    )
    with pytest.raises(GanvasError, match="damaged"):
        load_part_reader(tmp_path / "wrong.safetensors", "a")


# The generator that ships.


@pytest.fixture(scope="module")
def codes(ffhq: Generator) -> torch.Tensor:
    return sample(ffhq, 4, 0.7, 1)


def test_parts_are_shares_that_do_not_depend_on_the_batch(ffhq, codes):
    parts = ffhq.read_parts(codes)
    assert parts is not None and parts.shape[:2] == (len(codes), len(PARTS))
    assert (parts >= 0).all() and (parts.sum(1) <= 1 + 1e-5).all()
    assert torch.equal(parts[1:2], ffhq.read_parts(codes[1:2]))


def test_landmarks_lie_in_the_face_and_upper_corners_do_not(ffhq, codes):
    """dlib's landmarks, which no cluster learned from."""
    parts, side = ffhq.read_parts(codes), 256
    inner = slice(17, 68)  # brows, nose, eyes and mouth
    for code, part in zip(codes.split(1), parts, strict=True):
        landmarks = find_faces(ffhq.synthesis(code, resolution=side))[0]
        columns, rows = (landmarks * part.shape[1] / side).long().T
        assert part[:, rows, columns].sum(0)[inner].mean() > 0.9
        assert part[:, 0, 0].sum() < 0.5 and part[:, 0, -1].sum() < 0.5


def test_regions_that_are_limited_to_parts_are_small(ffhq, codes):
    for name, (region, _) in load_regions("ffhq").items():
        if region.parts:
            shares = [
                build_edit_mask([region], find_edited_parts(ffhq, [region], code, code), 256, 256).mean()
                for code in codes.split(1)
            ]
            assert torch.stack(shares).mean() <= LARGEST[name], name


def test_another_hair_leaves_eyes_and_background(ffhq):
    tools = load_tools("ffhq", editor="ffhq/compact-2")
    plain = Recipe(tools.generator_name, FromSeed(1), editor=tools.editor_name)
    edited = limit_to_regions(replace(plain, edits=(EditStep(shift={"Hair_Lightness": 1.5}),)))
    assert edited.regions == find_regions("ffhq", ["Hair_Lightness"])
    change = (render(edited, tools) - render(plain, tools)).abs().amax((0, 1))
    side = change.shape[0]
    assert (change[: side // 2, : side // 8] > 2 / 127.5).float().mean() < 0.02  # left of the head
    assert change[side // 2 : side * 3 // 4, side * 3 // 8 : side * 5 // 8].mean() < 0.02  # nose and mouth
    assert change[: side // 4].mean() > 0.05  # the hair


def test_pictures_and_parts_in_one_pass_are_those_of_two(ffhq):
    codes = sample(ffhq, 1, 0.7, 6)
    for resolution in (256, 64):  # of 64 pixels there is a picture before there are parts
        pictures, parts = ffhq.draw_with_parts(codes, resolution)
        assert torch.equal(pictures, ffhq.synthesis(codes, resolution=resolution))
        assert torch.equal(parts, ffhq.read_parts(codes))
    with torch.inference_mode():
        pictures, _ = ffhq.draw_with_parts(codes.double(), 256)
    assert not pictures.is_inference() and pictures.dtype == torch.float32
    pictures, parts = TOY.draw_with_parts(sample(TOY, 2))
    assert parts is None and torch.equal(pictures, TOY.synthesis(sample(TOY, 2)))


def test_a_mask_is_widened_by_a_square():
    mask = torch.rand(1, 1, 40, 50, generator=torch.Generator().manual_seed(0))
    for radius in (1, 3, 7):
        square = torch.nn.functional.max_pool2d(mask, 2 * radius + 1, 1, radius)
        assert torch.equal(regions._widen(mask, radius), square)


def test_an_edit_is_drawn_as_the_command_draws_it(ffhq):
    """Two codes at once; outside of its region each picture is as before, bit for bit."""
    tools = load_tools("ffhq", editor="ffhq/compact-2")
    step = EditStep(shift={"Eyeglasses": 1.0})
    recipes = [
        limit_to_regions(
            Recipe(tools.generator_name, FromSeed(seed, 0.7), tools.dtype, editor=tools.editor_name, edits=(step,))
        )
        for seed in (7, 8)
    ]
    ws = torch.cat([compute_unedited_code(recipe, tools) for recipe in recipes])
    edited = torch.cat([compute_code(recipe, tools) for recipe in recipes])
    found = ganvas.draw_edit(tools.generator, ws, edited, ["Eyeglasses"])
    torch.testing.assert_close(found, torch.cat([render(recipe, tools) for recipe in recipes]), atol=1e-4, rtol=0)
    shown = find_regions("ffhq", ["Eyeglasses"])
    parts = find_edited_parts(ffhq, shown, ws[:1], edited[:1])
    outside = build_edit_mask(shown, parts, *found.shape[2:])[0, 0] == 0
    assert outside.float().mean() > 0.5
    torch.testing.assert_close(found[0, :, outside], ffhq.synthesis(ws[:1])[0, :, outside], atol=1e-5, rtol=0)


def test_masks_of_parts_are_made_where_the_parts_are():
    """A graphics card's parts are never mixed with the processor's numbers; "meta" stands for another device."""
    parts = EditedParts(*[torch.zeros(1, len(PARTS), SIDE, SIDE, device="meta")] * 2)
    for names in (("face",), ("hair",), ("hair", "face")):
        for covered in (False, True):
            assert parts.build_drawn(names, covered).device.type == "meta"
        assert parts.build_uncovered(names).device.type == parts.build_background().device.type == "meta"


@pytest.mark.parametrize("names", [[], "Eyeglasses"])
def test_what_was_edited_is_a_list(names):
    with pytest.raises(GanvasError, match="Name what was edited in a list"):
        ganvas.draw_edit(TOY, sample(TOY, 1), sample(TOY, 1), names)


def test_an_edit_without_regions_is_the_whole_picture():
    ws, edited = sample(TOY, 2), sample(TOY, 2, seed=5)
    assert torch.equal(ganvas.draw_edit(TOY, ws, edited, ["Red"]), TOY.synthesis(edited))
    with pytest.raises(GanvasError, match="2 before and 1 after"):
        ganvas.draw_edit(TOY, ws, edited[:1], ["Red"])


def test_a_picture_drawn_without_parts_does_not_stand_in_for_one_with_them(ffhq):
    """Hats need no parts and lips do: what was drawn before doesn't matter."""
    fresh, used = (load_tools("ffhq", editor="ffhq/compact-2") for _ in range(2))
    start = Recipe(fresh.generator_name, FromSeed(1), editor=fresh.editor_name)
    hat, lips = (
        limit_to_regions(replace(start, edits=(EditStep(shift={name: 1.5}),)))
        for name in ("Wearing_Hat", "Wearing_Lipstick")
    )
    render(hat, used)
    assert torch.equal(render(lips, used), render(lips, fresh))
