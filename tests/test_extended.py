"""Extended editors: another's attributes beside their own, saved and loaded."""

from dataclasses import replace

import pytest
import torch
from fitted_editors import TOY, compact
from planted_truth import disentangled

from ganvas import GanvasError, editors, sample
from ganvas.editors.base import LinearEditor, collect_metadata
from ganvas.editors.masked import mask_editor
from ganvas.io.files import load_tensors, save_tensors


@pytest.mark.parametrize("masked", [False, True])
def test_an_extended_editor_has_more_attributes_and_its_own_as_before(masked, tmp_path):
    editor, ws = compact(), sample(TOY, 6, 0.7, 0)
    if masked:
        editor = mask_editor(editor, (0, 2), TOY)
    first = disentangled()
    names = tuple(f"My {name}" for name in first.attributes)
    added = LinearEditor(replace(collect_metadata(first), attributes=names), first.directions)
    extended = editors.extend_editor(editors.extend_editor(editor, pick(added, 0)), pick(added, 1))
    path = tmp_path / "extended.safetensors"
    editors.save(extended, path)
    loaded = editors.load_editor(path, TOY)
    assert editors.fingerprint(loaded) == editors.fingerprint(extended) != editors.fingerprint(editor)
    old, new = editor.attributes[0], names[0]
    assert loaded.attributes == (*editor.attributes, *names[:2])
    changes = torch.tensor([0.0, 1.0, -1.0, 0.5, 0.0, 2.0])
    assert torch.equal(loaded.edit(ws, {old: changes}), editor.edit(ws, {old: changes}))
    torch.testing.assert_close(loaded.edit(ws, {new: 1.0}), added.edit(ws, {new: 1.0}))
    both = loaded.edit(ws, {old: changes, new: 1.0})
    torch.testing.assert_close(both - loaded.edit(ws, {old: changes}), added.edit(ws, {new: 1.0}) - ws)
    assert torch.equal(loaded.edit(ws, {new: 0.0}), ws)
    assert torch.equal(loaded.read(ws)[:, : len(editor.attributes)], editor.read(ws))
    torch.testing.assert_close(loaded.read(ws)[:, -2], added.read(ws)[:, 0])
    torch.testing.assert_close(loaded.compute_reach(ws, {new: 1.0}), torch.ones(6, len(loaded.attributes)))
    with pytest.raises(GanvasError, match="already"):
        editors.extend_editor(extended, pick(added, 0))
    tensors, metadata = load_tensors(path)
    save_tensors(path, tensors, metadata | {"options": metadata["options"] | {"extended": [7]}})
    with pytest.raises(GanvasError, match="added attributes are damaged"):
        editors.load_editor(path, TOY)


def pick(editor, k):
    """Return a linear editor of one attribute of another."""
    metadata = collect_metadata(editor)
    one = replace(
        metadata,
        attributes=metadata.attributes[k : k + 1],
        kinds=metadata.kinds[k : k + 1],
        gaussianize=metadata.gaussianize.select([k]),
        probe=metadata.probe.select([k]),
    )
    return LinearEditor(one, editor.directions[k : k + 1])
