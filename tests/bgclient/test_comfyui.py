"""The node of ``examples/comfyui``, called as ComfyUI calls it, with the real server."""

import importlib.util

import numpy as np
import pytest
from PIL import Image

from bgclient import Client
from bgclient.errors import Doubtful


@pytest.fixture(scope="module")
def nodes(root):
    """The module, loaded by its path as ComfyUI does."""
    spec = importlib.util.spec_from_file_location("custom_node", root / "examples/comfyui/__init__.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_loading_the_node_imports_neither_pytorch_nor_the_client(root, run_python):
    script = "import sys; sys.path.insert(0, sys.argv[1]); import comfyui; print(comfyui.NODE_CLASS_MAPPINGS)"
    done = run_python(f"{script}; print({{'torch', 'bgclient'}} & set(sys.modules))", root / "examples")
    assert "BgclientCutPeople" in done.stdout, done.stderr
    assert done.stdout.endswith("set()\n")


@pytest.mark.server
def test_the_node_gives_the_people_and_mask_that_the_client_gives(nodes, root, server):
    torch = pytest.importorskip("torch")
    photo = np.asarray(Image.open(root / "examples/astronaut.png").convert("RGB"))
    image = torch.from_numpy(np.stack([photo, photo[:, ::-1]]).astype(np.float32) / 255)
    for name, kind in nodes.NODE_CLASS_MAPPINGS.items():
        assert name in nodes.NODE_DISPLAY_NAME_MAPPINGS
        node, given = kind(), kind.INPUT_TYPES()["required"]
        values = {"image": image, "url": server.grpc_url, "people": given["people"][0][0]}
        people, mask, expected = getattr(node, kind.FUNCTION)(
            **values, at_least=given["at_least"][1]["default"]
        )
        assert len(kind.RETURN_TYPES) == len(kind.RETURN_NAMES) == 3
        assert (people.shape, people.dtype) == (image.shape, torch.float32)
        assert (mask.shape, mask.dtype) == (image.shape[:3], torch.float32)
        assert 0 <= float(mask.min()) < float(mask.max()) <= 1
        with Client(server.grpc_url) as client:
            wanted = client.cut(photo)
        np.testing.assert_allclose(mask[0].numpy(), wanted.matte / 255, atol=2 / 255)
        inside = wanted.matte == 255
        np.testing.assert_allclose(people[0].numpy()[inside], photo[inside] / 255, atol=1e-4)
        assert 0.5 < expected <= wanted.expected_iou + 1e-6
        with pytest.raises(Doubtful, match="at_least=1"):
            getattr(node, kind.FUNCTION)(**values, at_least=1.0)
