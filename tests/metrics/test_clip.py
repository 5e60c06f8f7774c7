"""CLIP similarity through a tiny model of the real classes."""

import json

import numpy as np
import pytest
import torch

from impasto.errors import MissingExtraError, WeightsError
from impasto.metrics.clip import clip_similarity, load_clip

transformers = pytest.importorskip("transformers")
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A CLIP of a few thousand weights, saved as users have theirs, with a tokenizer of single letters."""
    place = tmp_path_factory.mktemp("clip")
    text = {
        "vocab_size": 60,
        "hidden_size": 32,
        "intermediate_size": 37,
        "num_attention_heads": 4,
        "num_hidden_layers": 2,
    }
    text |= {"bos_token_id": 56, "eos_token_id": 57, "pad_token_id": 57}
    vision = {"hidden_size": 32, "intermediate_size": 37, "num_attention_heads": 4, "num_hidden_layers": 2}
    vision |= {"image_size": 32, "patch_size": 8}
    torch.manual_seed(0)
    config = transformers.CLIPConfig(text_config=text, vision_config=vision, projection_dim=16)
    transformers.CLIPModel(config).save_pretrained(place)
    size = {"shortest_edge": 32}
    transformers.CLIPImageProcessorPil(size=size, crop_size={"height": 32, "width": 32}).save_pretrained(place)
    letters = [chr(code) for code in range(97, 123)]
    tokens = [
        *letters,
        *(f"{letter}</w>" for letter in letters),
        " ",
        ".",
        ",",
        "-",
        "<|startoftext|>",
        "<|endoftext|>",
    ]
    (place / "vocab.json").write_text(json.dumps({token: index for index, token in enumerate(tokens)}))
    (place / "merges.txt").write_text("#version: 0.2\n")
    return place


def test_embeddings_are_the_models_own(folder, natural):
    picture = natural("coffee.png", (48, 64))
    found = load_clip(folder).picture(picture)
    assert np.linalg.norm(found) == pytest.approx(1)
    model = transformers.CLIPModel.from_pretrained(folder)
    processor = transformers.CLIPImageProcessorPil.from_pretrained(folder)
    pixels = processor(images=(picture * 255).round().astype(np.uint8), return_tensors="pt")["pixel_values"]
    with torch.inference_mode():
        expected = model(input_ids=torch.tensor([[56, 1, 57]]), pixel_values=pixels).image_embeds[0].numpy()
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_similarity_is_one_at_identity_and_symmetric(folder, natural):
    encoder = load_clip(folder)
    first, second = (encoder.picture(natural(name, (48, 64))) for name in ("coffee.png", "brick.png"))
    assert clip_similarity(first, first) == pytest.approx(1)
    assert clip_similarity(first, second) == pytest.approx(clip_similarity(second, first))
    assert -1 <= clip_similarity(first, second) < 1
    assert -1 <= clip_similarity(first, encoder.text("a woodcut")) <= 1
    assert clip_similarity(np.zeros(4), np.ones(4)) == 0


def test_folders_without_a_model_are_refused(tmp_path, folder, monkeypatch):
    with pytest.raises(WeightsError, match=r"no config\.json"):
        load_clip(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "clip"}')
    with pytest.raises(WeightsError, match="cannot be loaded"):
        load_clip(tmp_path)
    monkeypatch.setitem(__import__("sys").modules, "transformers", None)
    with pytest.raises(MissingExtraError, match=r"impasto\[metrics\]"):
        load_clip(folder)
