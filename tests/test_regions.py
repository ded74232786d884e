"""Regions: an edit leaves what lies outside of its region as it was, and the recipe says which region that was."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from planted_truth import TOY, disentangled

from ganvas.errors import GanvasError
from ganvas.generators import list_generators, regions
from ganvas.generators.regions import Region, blend_pictures, build_edit_mask, find_regions, load_regions
from ganvas.io.images import to_bytes
from ganvas.recipe.model import EditStep, FromSeed, NamedTool, Recipe, from_json, to_json
from ganvas.recipe.rendering import EditMask, Tools, limit_to_mask, limit_to_regions, render
from ganvas.recipe.sheet import make_strength_grid, render_frames
from ganvas.scorers import load_scorer

LARGEST = {"eyes": 0.20, "eyewear": 0.20, "mouth": 0.15, "face": 0.45, "beard": 0.45, "hat": 0.40}
"""The largest share of the picture that an ellipse may hold; of what is limited to parts, test_parts.py has it."""
LEFT = Region((0.25, 0.5, 0.2, 0.3))
TOOLS = Tools(TOY, "float32", disentangled(), NamedTool("planted", "f" * 64))
EDITED = Recipe(
    NamedTool(TOY.name, TOY.fingerprint), FromSeed(7), editor=TOOLS.editor_name, edits=(EditStep(shift={"Red": 1.5}),)
)


def draw_noise(seed: int, height: int, width: int) -> torch.Tensor:
    return torch.rand((2, 3, height, width), generator=torch.Generator().manual_seed(seed)) * 2 - 1


@pytest.mark.parametrize(("height", "width"), [(5, 7), (31, 64), (33, 32), (90, 61), (128, 128)])
def test_blending_keeps_what_lies_outside_and_takes_what_lies_inside(height, width):
    before, after = draw_noise(1, height, width), draw_noise(2, height, width)
    mask = LEFT.build_mask(height, width)
    blended = blend_pictures(before, after, mask)
    outside = (mask == 0).expand_as(before)
    assert torch.equal(blended[outside], before[outside])
    assert torch.equal(blend_pictures(before, before, mask), before)
    torch.testing.assert_close(blend_pictures(before, after, torch.ones_like(mask)), after, atol=1e-5, rtol=0)


def test_blending_has_no_seam():
    """Between a dark and a bright picture no step from pixel to pixel is near the difference."""
    before, after = torch.full((1, 3, 128, 128), -1.0), torch.full((1, 3, 128, 128), 1.0)
    blended = blend_pictures(before, after, LEFT.build_mask(128, 128))
    assert blended.max() > 0.9
    assert max(blended.diff(dim=2).abs().max(), blended.diff(dim=3).abs().max()) < 0.6


def test_pictures_of_two_shapes_are_refused():
    with pytest.raises(GanvasError, match="one shape"):
        blend_pictures(torch.zeros(1, 3, 8, 8), torch.zeros(1, 3, 8, 9), torch.ones(1, 1, 8, 8))


def test_regions_of_generators_are_small_and_name_attributes_once():
    known = {*load_scorer("face_attributes").attributes}
    found = [(name, *row) for generator in list_generators() for name, row in load_regions(generator).items()]
    for name, region, attributes in found:
        if name in LARGEST or not region.parts:
            assert (region.build_mask(256, 256) > 0).float().mean() <= LARGEST[name]
        assert {*attributes} <= known
    named = [attribute for _, _, attributes in found for attribute in attributes]
    assert len(named) == len(set(named))


def test_regions_of_several_attributes_are_joined_and_one_of_the_whole_picture_gives_none():
    eyes, mouth = find_regions("ffhq", ["Narrow_Eyes"]), find_regions("ffhq", ["Big_Lips"])
    both = find_regions("ffhq", ["Narrow_Eyes", "Big_Lips", "Bushy_Eyebrows"])
    assert both == (*eyes, *mouth)
    assert torch.equal(
        build_edit_mask(both, None, 64, 64), torch.maximum(eyes[0].build_mask(64, 64), mouth[0].build_mask(64, 64))
    )
    assert find_regions("ffhq", ["Smiling", "Blurry"]) == find_regions("another", ["Smiling"]) == ()


def test_recipes_keep_their_region():
    recipe = replace(EDITED, regions=(LEFT, Region((0.5, 0.5, 0.4, 0.4), (0.5, 0.5, 0.1, 0.1), 0.5, ("hair", "face"))))
    assert from_json(json.loads(json.dumps(to_json(recipe))), "here") == recipe
    assert "regions" not in to_json(EDITED)
    with pytest.raises(GanvasError, match="not by both"):
        replace(recipe, mask="a" * 64)


@pytest.mark.parametrize("wrong", [(0.5, 0.5, 0.0, 0.2), (0.5, 0.5, -1.0, 0.2), (0.5, 0.5, float("nan"), 0.2)])
def test_shapes_that_are_no_ellipse_are_refused(wrong):
    with pytest.raises(GanvasError):
        Region(wrong)


def test_an_edit_in_a_region_changes_nothing_outside():
    free, kept = render(EDITED, TOOLS), render(replace(EDITED, regions=(LEFT,)), TOOLS)
    plain = render(replace(EDITED, edits=()), TOOLS)
    outside = (LEFT.build_mask(*plain.shape[-2:]) == 0).expand_as(plain)
    assert torch.equal(kept[outside], plain[outside])
    assert not torch.equal(kept, plain)
    assert not torch.equal(free[outside], plain[outside])


def test_the_pictures_of_a_sheet_are_those_drawn_alone(monkeypatch):
    monkeypatch.setattr(regions, "load_regions", lambda _: {"left": (LEFT, ("Red",))})
    faces = {str(seed): replace(EDITED, start=FromSeed(seed), edits=()) for seed in (1, 2)}
    sheet = make_strength_grid(faces, ["Red", "Big"], [-1, 1], TOY.resolution)
    sheet = replace(sheet, pictures=tuple(limit_to_regions(picture) for picture in sheet.pictures))
    assert [picture.regions for picture in sheet.pictures[:4]] == [(LEFT,), (LEFT,), None, None]
    drawn, _ = render_frames(sheet, TOOLS)
    for picture, frame in zip(sheet.pictures, drawn, strict=True):
        assert torch.equal(frame, to_bytes(render(picture, replace(TOOLS, last_unedited={})))[0])


def test_a_mask_is_known_by_its_pixels():
    mask = EditMask.from_picture(torch.ones(1, 3, 8, 8))
    recipe = limit_to_mask(EDITED, mask)
    with pytest.raises(GanvasError, match="give it with --region"):
        render(recipe, TOOLS)
    with pytest.raises(GanvasError, match="needs the mask"):
        render(recipe, replace(TOOLS, mask=EditMask.from_picture(torch.ones(1, 3, 4, 16))))
    torch.testing.assert_close(render(recipe, replace(TOOLS, mask=mask)), render(EDITED, TOOLS), atol=1e-5, rtol=0)
    with pytest.raises(GanvasError, match="black"):
        EditMask.from_picture(-torch.ones(1, 3, 8, 8))
    assert limit_to_mask(replace(EDITED, edits=(), editor=None), mask).mask is None
