"""Segment Anything, on tiny models of the real classes with random weights."""

import numpy as np
import pytest

from impasto.errors import FieldError, MissingExtraError, UsageError, WeightsError
from impasto.image import read_picture
from impasto.regions import RegionConfig, RegionFinder
from impasto.regions import sam as module

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

DECODER = {
    "hidden_size": 16,
    "mlp_dim": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "iou_head_hidden_dim": 16,
    "iou_head_depth": 2,
}


def tiny_sam():
    vision = {
        "hidden_size": 16,
        "output_channels": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "image_size": 64,
        "patch_size": 16,
        "mlp_dim": 32,
        "window_size": 2,
        "global_attn_indexes": [1],
        "num_pos_feats": 8,
    }
    prompt = {"hidden_size": 16, "image_size": 64, "patch_size": 16, "mask_input_channels": 4}
    config = transformers.SamConfig(vision_config=vision, prompt_encoder_config=prompt, mask_decoder_config=DECODER)
    return transformers.SamModel(config)


def tiny_sam2():
    backbone = {
        "model_type": "sam2_hiera_det_model",
        "hidden_size": 8,
        "image_size": [128, 128],
        "blocks_per_stage": [1, 2, 1, 1],
        "embed_dim_per_stage": [8, 16, 32, 64],
        "num_attention_heads_per_stage": [1, 1, 1, 1],
        "window_size_per_stage": [2, 2, 2, 2],
        "global_attention_blocks": [2],
        "window_positional_embedding_background_size": [4, 4],
    }
    vision = {
        "backbone_config": backbone,
        "backbone_channel_list": [64, 32, 16, 8],
        "backbone_feature_sizes": [[32, 32], [16, 16], [8, 8]],
        "fpn_hidden_size": 32,
    }
    config = transformers.Sam2Config(
        vision_config=vision,
        prompt_encoder_config={"hidden_size": 32, "image_size": 128, "patch_size": 16, "mask_input_channels": 4},
        mask_decoder_config=DECODER | {"hidden_size": 32},
    )
    return transformers.Sam2Model(config)


@pytest.fixture(scope="module", params=["sam", "sam2"])
def folder(request, tmp_path_factory):
    torch.manual_seed(0)
    model = (tiny_sam if request.param == "sam" else tiny_sam2)().eval()
    with torch.no_grad():  # random weights answer with zeros almost everywhere; make the proposals differ
        for name, parameter in model.named_parameters():
            if "mask_decoder" in name:
                parameter.mul_(8)
    path = tmp_path_factory.mktemp("weights") / request.param
    model.save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def pixels():
    return np.random.default_rng(0).integers(0, 255, (40, 60, 3)).astype(np.uint8)


PROMPTS = [
    {"box": (5.0, 5.0, 30.0, 30.0)},
    {"inside": [(10.0, 10.0)]},
    {"inside": [(10.0, 10.0), (20.0, 15.0)], "outside": [(50.0, 30.0)]},
    {"box": (5.0, 5.0, 30.0, 30.0), "inside": [(10.0, 10.0)]},
]


@pytest.mark.parametrize("prompt", PROMPTS)
def test_boxes_and_clicks_give_masks_of_the_pictures_size(folder, pixels, prompt):
    view = module.SamView(module.load_sam(str(folder)), pixels)
    try:
        mask = view.cut(**prompt, about="it")
    except FieldError as error:
        assert "nothing was found in the region 'it'" in str(error)
        return
    assert mask.shape == (40, 60) and mask.dtype == np.float32 and 0 <= mask.min() <= mask.max() <= 1
    np.testing.assert_array_equal(mask, view.cut(**prompt))


def test_the_answer_is_the_models_best_proposal_at_the_right_place(pixels):
    """A model that answers with a known picture: the upper left quarter of what it sees, as the second proposal."""

    class Answering:
        def get_image_embeddings(self, batch):
            self.seen = batch
            return batch

        def __call__(self, image_embeddings, multimask_output, **asked):
            self.asked = asked
            masks = torch.full((1, 1, 3, 16, 16), -20.0)
            masks[0, 0, 1, :8, :8] = 20.0
            return type("Answer", (), {"pred_masks": masks, "iou_scores": torch.tensor([[[0.1, 0.9, 0.5]]])})

    model = Answering()
    mask = module.SamView(module.Sam(model, 64, False), pixels).cut(box=(6.0, 4.0, 30.0, 20.0), inside=[(15.0, 10.0)])
    # 60 x 40 fitted into 64 x 43 of 64 x 64: a quarter's 32 pixels are half of the width, three quarters of the height
    assert mask[:28, :28].min() > 0.99 and mask[:, 33:].max() < 0.01 and mask[32:].max() < 0.01
    np.testing.assert_allclose(model.asked["input_boxes"][0, 0], [6.4, 4.3, 32.0, 21.5], atol=1e-5)
    np.testing.assert_allclose(model.asked["input_points"][0, 0], [[16.0, 10.75]], atol=1e-5)
    assert model.seen.shape == (1, 3, 64, 64) and float(model.seen[0, :, 43:].abs().max()) == 0


def test_pictures_are_prepared_as_by_the_original_processor(pixels):
    processor = transformers.SamImageProcessorPil if hasattr(transformers, "SamImageProcessorPil") else None
    if processor is None:
        processor = transformers.AutoImageProcessor
        pytest.skip("this version of transformers has no SAM processor that works without torchvision")
    prepared = processor(size={"longest_edge": 64}, pad_size={"height": 64, "width": 64})(pixels, return_tensors="pt")
    ours = module._batch(pixels, module._fitted((40, 60), 64), 64)
    np.testing.assert_allclose(ours, prepared["pixel_values"], atol=0.02)


def test_the_finder_asks_sam_when_told_to(folder, pixels, monkeypatch):
    asked = []

    def cut(self, **prompt):
        asked.append(prompt)
        return np.ones((40, 60), np.float32)

    monkeypatch.setattr(module.SamView, "cut", cut)
    finder = RegionFinder(read_picture(pixels), RegionConfig(sam=str(folder)))
    finder.find("box:5,5,30,30")
    finder.find("click:10,10/-50,30")
    assert asked[0]["box"] == (5, 5, 30, 30)
    assert asked[1]["inside"] == [(10, 10)] and asked[1]["outside"] == [(50, 30)]


def test_what_is_no_sam(tmp_path, pixels):
    with pytest.raises(UsageError, match=r"neither a folder .* nor OWNER/NAME@COMMIT"):
        module.load_sam("facebook/sam-vit-base")
    with pytest.raises(UsageError, match="40 digits"):
        module.load_sam("facebook/sam-vit-base@main")
    with pytest.raises(WeightsError, match="cannot be loaded from"):
        module.load_sam(str(tmp_path))
    config = transformers.CLIPTextConfig(
        hidden_size=32, intermediate_size=37, num_attention_heads=4, num_hidden_layers=1
    )
    config.save_pretrained(tmp_path / "clip")
    with pytest.raises(WeightsError, match="type 'clip_text_model', not SAM"):
        module.load_sam(str(tmp_path / "clip"))


def test_a_missing_extra_is_named(monkeypatch, tmp_path):
    import sys

    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(MissingExtraError, match=r"Segment Anything needs .* pip install 'impasto\[sam\]'"):
        module.load_sam(str(tmp_path))


def test_nothing_asked(pixels):
    view = object.__new__(module.SamView)
    with pytest.raises(FieldError, match="'it' needs a box or a click"):
        module.SamView.cut(view, about="it")
