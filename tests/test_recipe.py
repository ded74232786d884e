"""Recipes: JSON there and back, strict reading, and the same pixels again."""

from __future__ import annotations

import copy
import json
from dataclasses import replace

import pytest
import torch
from fitted_editors import QUICK, labels
from planted_truth import TOY, PlantedEditor, disentangled

from ganvas import editors
from ganvas.data.codes import Codes, load_codes, pack_codes, save_codes, unpack_codes
from ganvas.errors import GanvasError
from ganvas.generators.base import sample
from ganvas.io import figures
from ganvas.io.images import encode_png, from_bytes, read_picture, read_png_texts, to_bytes
from ganvas.recipe.files import draw_recipes, draw_sheet, load_recipe, save_picture
from ganvas.recipe.model import (
    EditStep,
    FromCodes,
    FromConditions,
    FromSeed,
    Mix,
    NamedTool,
    Recipe,
    from_json,
    to_json,
)
from ganvas.recipe.rendering import Tools, compute_changes, compute_code, render
from ganvas.recipe.sheet import Sheet, interpolate_frames, make_animation, make_strength_grid, render_frames

TOY_NAME, PLANTED_NAME = NamedTool(TOY.name, TOY.fingerprint), NamedTool("planted", "f" * 64)
TOOLS = Tools(TOY, "float32", disentangled(), PLANTED_NAME)
PLAIN = Recipe(TOY_NAME, FromSeed(7))
EDITED = Recipe(
    TOY_NAME,
    FromSeed(7),
    "float32",
    None,
    PLANTED_NAME,
    (EditStep({"Big": 1.5}, {"Red": -1.0}), EditStep({}, {"Bright": 2})),
)
RECIPES = [
    PLAIN,
    EDITED,
    replace(PLAIN, start=FromSeed(1, 1.0, (0.0, 1.0)), dtype="bfloat16"),
    replace(EDITED, start=FromConditions({"Big": (1.0, None), "Red": (-1.0, -1.0)}, 3)),
    replace(EDITED, start=FromCodes("a" * 64, 2), mix=Mix(FromSeed(8), (0, 2), 0.5)),
]
SHEETS = [
    make_strength_grid({"seed 7": EDITED}, ["Big"], [-1, 1], 32),
    make_animation([PLAIN, EDITED], 32, 12.5, back=False),
]


@pytest.mark.parametrize("recipe", [*RECIPES, *SHEETS])
def test_json_there_and_back_is_the_identity(recipe):
    text = json.dumps(to_json(recipe), allow_nan=False)
    assert from_json(json.loads(text), "here") == recipe


def places(value, path=()):
    """Every place in a JSON value, as the keys that lead to it."""
    yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield from places(item, (*path, key))


def at(value, path):
    for key in path:
        value = value[key]
    return value


@pytest.mark.parametrize("recipe", [*RECIPES, *SHEETS])
def test_any_key_missing_or_unknown_is_one_line(recipe):
    whole = to_json(recipe)
    free = {"set", "shift", "where"}  # their keys are attributes
    for path in places(whole):
        owner = at(whole, path)
        if not isinstance(owner, dict) or (path and path[-1] in free):
            continue
        for key in owner:
            broken = copy.deepcopy(whole)
            del at(broken, path)[key]
            refused(broken)
        broken = copy.deepcopy(whole)
        at(broken, path)["more"] = 1
        refused(broken)


@pytest.mark.parametrize("recipe", [*RECIPES, *SHEETS])
@pytest.mark.parametrize("wrong", [float("nan"), float("inf"), 10**400, True, [[]], {"x": []}, "x" * 3, -1])
def test_wrong_values_are_refused_or_mean_something(recipe, wrong):
    whole = to_json(recipe)
    for path in places(whole):
        if not path:
            continue
        broken = copy.deepcopy(whole)
        at(broken, path[:-1])[path[-1]] = wrong
        error = error_of(broken)
        if error is None:
            assert type(wrong) is type(at(whole, path)) or wrong == -1 or path[-1] == "editor"
        else:
            assert "\n" not in error
            assert len(error) < 400


def error_of(value) -> str | None:
    try:
        from_json(value, "here")
    except GanvasError as error:
        return str(error)
    return None


def refused(value, match="."):
    with pytest.raises(GanvasError, match=match) as caught:
        from_json(value, "here")
    assert "\n" not in str(caught.value)


def test_unknown_versions_and_kinds_are_refused():
    whole = to_json(PLAIN)
    refused(whole | {"version": 2}, "unknown version 2")
    refused(whole | {"version": True}, "unknown version")
    refused(whole | {"kind": "film"}, "film|key")
    refused([], "object")


def test_numbers_that_are_not_finite_never_get_into_a_recipe():
    for make in (
        lambda x: FromSeed(1, x),
        lambda x: EditStep({"Big": x}),
        lambda x: EditStep(shift={"Big": x}),
        lambda x: FromConditions({"Big": (x, None)}, 1),
        lambda x: Mix(FromSeed(1), (0,), x),
    ):
        with pytest.raises(GanvasError, match="finite"):
            make(float("nan"))


def test_set_reaches_its_value_and_shift_moves_by_its_change():
    before = TOOLS.required_editor.read(compute_code(PLAIN, TOOLS))[0]
    after = TOOLS.required_editor.read(compute_code(EDITED, TOOLS))[0]
    names = TOOLS.required_editor.attributes
    wanted = before.clone()
    wanted[names.index("Big")] = 1.5
    wanted[names.index("Red")] -= 1
    wanted[names.index("Bright")] += 2
    assert torch.allclose(after, wanted, atol=1e-4)


def test_several_values_are_reached_though_each_move_also_moves_the_others():
    truth = torch.stack(list(TOY.planted.values()))
    crossed = PlantedEditor((torch.eye(5) + 0.5 * (1 - torch.eye(5))) @ truth)
    ws = sample(TOY, 6, 0.7, 7)
    unbounded = editors.fit("compact", labels(), TOY, **QUICK, max_move_length=None)
    for editor in (crossed, unbounded):
        targets = {"Big": 1.5, "Red": -1.0, "Bright": 0.5}
        columns = [editor.attributes.index(name) for name in targets]
        after = editor.read(editor.edit(ws, compute_changes(EditStep(targets), editor, ws)))[:, columns]
        assert (after - torch.tensor(list(targets.values()))).abs().max() < 0.05
        shifted = editor.edit(ws, compute_changes(EditStep({"Big": 1.5}, {"Red": 1.0}), editor, ws))
        assert (editor.read(shifted)[:, columns[0]] - 1.5).abs().max() < 0.05
        alone = compute_changes(EditStep({"Big": 1.5}, amount=0.5), editor, ws)["Big"]
        torch.testing.assert_close(alone, 0.5 * (1.5 - editor.read(ws)[:, columns[0]]))


def test_a_value_that_cannot_be_reached_stays_finite_and_unknown_names_are_refused():
    stuck = PlantedEditor(torch.zeros(5, 64))
    ws = sample(TOY, 2, 0.7, 7)
    changes = compute_changes(EditStep({"Big": 1.5, "Red": 1.0}), stuck, ws)
    assert all(torch.isfinite(torch.as_tensor(change)).all() for change in changes.values())
    with pytest.raises(GanvasError, match="Unknown attribute 'Bg'"):
        compute_changes(EditStep({"Bg": 1.5}), stuck, ws)


def test_no_edit_is_the_seed_itself():
    assert torch.equal(compute_code(PLAIN, TOOLS), sample(TOY, 1, 0.7, 7))
    nothing = replace(EDITED, edits=(EditStep(shift={"Big": 0.0}), replace(EDITED.edits[0], amount=0.0)))
    assert torch.equal(compute_code(nothing, TOOLS), sample(TOY, 1, 0.7, 7))


def test_a_mix_takes_its_rows_from_the_second_face():
    a, b = sample(TOY, 1, 0.7, 7), sample(TOY, 1, 0.7, 8)
    mixed = compute_code(replace(PLAIN, mix=Mix(FromSeed(8), (0, 3))), TOOLS)
    assert torch.equal(mixed[:, [0, 3]], b[:, [0, 3]])
    assert torch.equal(mixed[:, 1:3], a[:, 1:3])
    half = compute_code(replace(PLAIN, mix=Mix(FromSeed(8), (0, 1, 2, 3), 0.5)), TOOLS)
    assert torch.allclose(half, (a + b) / 2, atol=1e-6)
    with pytest.raises(GanvasError, match="no row 4"):
        compute_code(replace(PLAIN, mix=Mix(FromSeed(8), (4,))), TOOLS)


def test_other_tools_than_the_recipe_names_are_refused():
    for tools, match in (
        (replace(TOOLS, dtype="bfloat16"), "float32"),
        (replace(TOOLS, editor_name=NamedTool("planted", "0" * 64)), "needs editor 'planted' .*, not 'planted'"),
        (Tools(TOY, "float32"), "needs editor 'planted'"),
    ):
        with pytest.raises(GanvasError, match=match):
            render(EDITED, tools)
    with pytest.raises(GanvasError, match=r"generator 'ffhq' .*, not for 'toy'"):
        render(replace(PLAIN, generator=NamedTool("ffhq", "0" * 64)), TOOLS)
    with pytest.raises(GanvasError, match="--codes FILE"):
        render(replace(PLAIN, start=FromCodes("a" * 64, 0)), TOOLS)


def test_a_picture_carries_its_recipe_and_gives_the_same_bytes_again(tmp_path):
    first, again = tmp_path / "face.png", tmp_path / "again.png"
    draw_recipes([EDITED], [first], TOOLS)
    for source in (first, tmp_path / "face.json"):
        recipe, carried = load_recipe(source)
        assert recipe == EDITED
        assert carried is None
        draw_recipes([recipe], [again], TOOLS)
        assert again.read_bytes() == first.read_bytes()
    pixels = to_bytes(render(EDITED, TOOLS))
    assert torch.equal(to_bytes(read_picture(first)), pixels)


def test_a_picture_from_codes_carries_them(tmp_path):
    file = tmp_path / "codes.safetensors"
    save_codes(file, torch.randn(3, TOY.num_ws, TOY.w_dim), TOY)
    codes = load_codes(file, TOY)
    recipe = replace(PLAIN, start=FromCodes(codes.sha256, 2), mix=Mix(FromCodes(codes.sha256, 0), (1,)))
    path = tmp_path / "face.png"
    draw_recipes([recipe], [path], TOOLS.with_codes(codes))
    # The keys stay as they are: every picture that exists has them.
    assert {"ganvas.recipe", "ganvas.codes"} <= read_png_texts(path).keys()
    found, carried = load_recipe(path)
    rows = unpack_codes(carried, path, TOY)
    assert torch.equal(compute_code(found, TOOLS.with_codes(rows)), compute_code(recipe, TOOLS.with_codes(codes)))
    with pytest.raises(GanvasError, match="no row 1"):
        rows.get_code(1)
    other = Codes(codes.ws, "b" * 64, codes.rows)
    with pytest.raises(GanvasError, match=r"sha256 .* not bbbb"):
        compute_code(recipe, TOOLS.with_codes(other))


@pytest.mark.parametrize(
    "wrong", [None, [], {}, {"sha256": "a", "rows": [0], "ws": "?"}, {"sha256": "a", "rows": [0], "ws": "AAAA"}]
)
def test_damaged_carried_codes_are_refused(wrong):
    with pytest.raises(GanvasError, match="damaged or don't fit"):
        unpack_codes(wrong, "face.png", TOY)


def test_carried_codes_must_be_finite():
    codes = Codes(torch.full((1, TOY.num_ws, TOY.w_dim), float("nan")), "a", range(1))
    with pytest.raises(GanvasError, match="damaged or don't fit"):
        unpack_codes(pack_codes(codes, [0]), "face.png", TOY)


def test_codes_files_are_equal_bytes_and_know_their_generator(tmp_path):
    ws = sample(TOY, 2, 1, 5)
    a, b = tmp_path / "a.safetensors", tmp_path / "b.safetensors"
    save_codes(a, ws, TOY)
    save_codes(b, ws.clone(), TOY)
    assert a.read_bytes() == b.read_bytes()
    assert torch.equal(load_codes(a, TOY).ws, ws)
    other = copy.copy(TOY)
    other.name, other.fingerprint = "tiny", "1" * 64
    with pytest.raises(GanvasError, match=r"generator 'toy' .* not for 'tiny'"):
        load_codes(a, other)
    a.write_bytes(b.read_bytes()[:-1])
    with pytest.raises(GanvasError, match="whole safetensors"):
        load_codes(a, TOY)


def test_png_that_carries_nothing_or_is_cut_is_refused(tmp_path):
    path = tmp_path / "face.png"
    path.write_bytes(encode_png(torch.zeros(8, 8, 3, dtype=torch.uint8)))
    with pytest.raises(GanvasError, match="carries no recipe"):
        load_recipe(path)
    path.write_bytes(path.read_bytes()[:20])
    with pytest.raises(GanvasError, match="isn't a whole PNG"):
        load_recipe(path)
    path.write_bytes(b"")
    with pytest.raises(GanvasError, match="isn't a whole picture"):
        read_picture(path)


def test_a_text_that_unpacks_to_gigabytes_is_refused(tmp_path):
    path = tmp_path / "bomb.png"
    path.write_bytes(encode_png(torch.zeros(8, 8, 3, dtype=torch.uint8), {"ganvas.recipe": "0" * (8 << 20)}))
    assert path.stat().st_size < 100_000
    with pytest.raises(GanvasError, match="isn't a whole PNG"):
        read_png_texts(path)


def test_only_png_and_both_files_or_neither(tmp_path):
    pixels = torch.zeros(8, 8, 3, dtype=torch.uint8)
    with pytest.raises(GanvasError, match=r"must end with .png"):
        save_picture(tmp_path / "face.jpg", pixels, PLAIN)
    (tmp_path / "face.json").mkdir()
    with pytest.raises(GanvasError, match="it is a folder"):
        save_picture(tmp_path / "face.png", pixels, PLAIN)
    assert [p.name for p in tmp_path.iterdir()] == ["face.json"]


def test_grids_are_rendered_again_to_the_same_bytes(tmp_path):
    sheet = make_strength_grid({"seed 7": EDITED}, ["Big", "Red"], [-1, 0, 1], 32)
    assert len(sheet.pictures) == 6
    assert sheet.rows == ("seed 7: Big", "seed 7: Red")
    assert sheet.columns == ("-1", "+0", "+1")
    first, again = tmp_path / "grid.png", tmp_path / "again.png"
    draw_sheet(sheet, first, TOOLS)
    recipe, _ = load_recipe(first)
    assert recipe == sheet
    draw_sheet(recipe, again, TOOLS)
    assert first.read_bytes() == again.read_bytes()


def test_a_sheet_holds_its_pictures_in_order_and_draws_equal_ones_once():
    frames = interpolate_frames(PLAIN, FromSeed(8), TOY.num_ws, 5)
    film = make_animation(frames, 32, 10, back=True)
    drawn = []
    pictures, codes = render_frames(film, TOOLS, lambda jobs: drawn.extend(jobs) or jobs)
    assert len(pictures) == 8
    assert len(drawn) == 5
    assert torch.equal(codes[:1], sample(TOY, 1, 0.7, 7))
    assert torch.equal(codes[4:5], sample(TOY, 1, 0.7, 8))
    assert all(torch.equal(pictures[i], pictures[8 - i]) for i in (1, 2, 3))
    single = to_bytes(TOY.synthesis(codes[2:3]))[0]
    assert torch.equal(pictures[2], single)


def test_a_grid_puts_each_picture_into_its_cell():
    torch.manual_seed(0)
    cells = [torch.randint(0, 256, (16, 16, 3), dtype=torch.uint8) for _ in range(6)]
    sheet = figures.draw_grid(cells, ["one", "two"], ["a", "b", "c"])
    step, times = figures.MIN_TILE_SIDE + figures.GAP, figures.MIN_TILE_SIDE // 16
    corner = sheet[-step * 2 :, -step * 3 :]
    for k, cell in enumerate(cells):
        j, i = divmod(k, 3)
        shown = corner[j * step : (j + 1) * step - figures.GAP, i * step : (i + 1) * step - figures.GAP]
        assert torch.equal(shown[::times, ::times], cell) and torch.equal(shown[times - 1 :: times, ::times], cell)
    step = 16 + figures.GAP  # pictures without texts stay as they are
    assert torch.equal(sheet, figures.draw_grid(cells, ["one", "two"], ["a", "b", "c"]))
    assert figures.draw_contact_sheet(cells, 4).shape == (figures.GAP + 2 * step, figures.GAP + 4 * step, 3)


def test_heat_maps_and_gifs_are_equal_bytes_for_equal_input():
    values = torch.linspace(-1, 1, 12).reshape(3, 4)
    args = (values, ["a", "b", "c"], ["w", "x", "y", "z"], "title")
    assert figures.draw_heat_map(*args) == figures.draw_heat_map(*args)
    frames = [to_bytes(from_bytes(torch.full((1, 8, 8, 3), 40 * i, dtype=torch.uint8)))[0] for i in range(3)]
    assert figures.encode_gif(frames, 10) == figures.encode_gif(frames, 10)
    with pytest.raises(GanvasError, match="doesn't fit"):
        figures.draw_heat_map(values, ["a"], ["b"])


@pytest.mark.parametrize(
    "change",
    [{"kind": "film"}, {"pictures": ()}, {"size": 0}, {"size": 10**6}, {"rate": 1.0}, {"rows": ("a", "b", "c")}],
)
def test_impossible_sheets_are_refused(change):
    sheet = Sheet("grid", (PLAIN, PLAIN), ("a", "b"), ("x",), 32)
    with pytest.raises(GanvasError):
        replace(sheet, **change)


@pytest.mark.parametrize("fingerprint", ["é\n\u2028\x00", "a b", "\x1b[31m"])
def test_a_fingerprint_of_other_characters_is_one_line(fingerprint):
    """Messages quote fingerprints, and what a file says must not write lines or colours to a terminal."""
    with pytest.raises(GanvasError) as error:
        NamedTool("mine", fingerprint)
    assert str(error.value).isprintable()
