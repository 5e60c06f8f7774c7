"""Models that engines need and that do not come with impasto, with random weights."""

import json

import pytest

NAMES = ("waves", "stones")


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
    """A folder with two styles as ``impasto train johnson`` leaves them: small networks with random weights."""
    torch = pytest.importorskip("torch")
    pytest.importorskip("onnxscript")
    from impasto.export import export_johnson
    from impasto.nets.johnson import JohnsonConfig, JohnsonNet
    from impasto.training.files import save_johnson

    folder = tmp_path_factory.mktemp("trained")
    for seed, name in enumerate(NAMES):
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            net = JohnsonNet(JohnsonConfig(half=8, quarter=8, blocks=1))
            net.paint.weight.data.normal_(std=0.04)
            net.paint.bias.data.normal_(std=0.1)
        facts = {"name": name, "title": f"Random {name}", "credit": "chance", "summary": "for tests"}
        texts = {"step": "1", "recipe": 'name = "johnson"', "style": json.dumps(facts)}
        save_johnson(net, folder / f"{name}.safetensors", texts)
        export_johnson(folder / f"{name}.safetensors", folder)
    return folder


# -- tiny diffusion models of the real classes, for the engine ``latent`` ----------------------------------------------


def _tokenizer():
    """A CLIP tokenizer over single characters."""
    from transformers import CLIPTokenizer

    kept = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    letters = [chr(byte) for byte in kept] + [chr(256 + index) for index in range(256 - len(kept))]
    merges = [("c", "a"), ("ca", "t</w>")]
    words = [*letters, *(f"{one}</w>" for one in letters), "ca", "cat</w>", "<|startoftext|>", "<|endoftext|>"]
    return CLIPTokenizer(vocab={word: index for index, word in enumerate(words)}, merges=merges, model_max_length=77)


def _text_config(**more):
    from transformers import CLIPTextConfig

    return CLIPTextConfig(
        vocab_size=516, hidden_size=32, intermediate_size=37, num_attention_heads=4, num_hidden_layers=2,
        bos_token_id=514, eos_token_id=515, pad_token_id=515, **more,
    )  # fmt: skip


def _unet(**more):
    from diffusers import UNet2DConditionModel

    settings = {
        "block_out_channels": (16, 32), "layers_per_block": 1, "sample_size": 32, "norm_num_groups": 8,
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"), "cross_attention_dim": 32,
        "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"), "attention_head_dim": 8,
    }  # fmt: skip
    return UNet2DConditionModel(**settings | more)


def _parts():
    from diffusers import AutoencoderKL, DDIMScheduler

    vae = AutoencoderKL(
        block_out_channels=[8, 16, 16],
        down_block_types=["DownEncoderBlock2D"] * 3,
        up_block_types=["UpDecoderBlock2D"] * 3,
        latent_channels=4,
        norm_num_groups=8,
    )
    schedule = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}
    scheduler = DDIMScheduler(clip_sample=False, set_alpha_to_one=False, steps_offset=1, **schedule)
    return {"vae": vae, "scheduler": scheduler, "tokenizer": _tokenizer()}


@pytest.fixture(scope="session")
def tiny_sd(tmp_path_factory):
    """Folder of a Stable Diffusion 1.5 of random weights; its decoder enlarges by 4."""
    torch = pytest.importorskip("torch")
    diffusers = pytest.importorskip("diffusers")
    from transformers import CLIPTextModel

    folder = tmp_path_factory.mktemp("sd")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        parts = _parts() | {"unet": _unet(), "text_encoder": CLIPTextModel(_text_config())}
        pipe = diffusers.StableDiffusionPipeline(
            **parts, safety_checker=None, feature_extractor=None, requires_safety_checker=False
        )
    pipe.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_sdxl(tmp_path_factory):
    """Folder of a Stable Diffusion XL of random weights."""
    torch = pytest.importorskip("torch")
    diffusers = pytest.importorskip("diffusers")
    from transformers import CLIPTextModel, CLIPTextModelWithProjection

    folder = tmp_path_factory.mktemp("sdxl")
    with torch.random.fork_rng():
        torch.manual_seed(1)
        unet = _unet(
            addition_embed_type="text_time", addition_time_embed_dim=8, transformer_layers_per_block=(1, 2),
            projection_class_embeddings_input_dim=6 * 8 + 32, cross_attention_dim=64, use_linear_projection=True,
        )  # fmt: skip
        parts = _parts() | {
            "unet": unet, "text_encoder": CLIPTextModel(_text_config()),
            "text_encoder_2": CLIPTextModelWithProjection(_text_config(projection_dim=32)), "tokenizer_2": _tokenizer(),
        }  # fmt: skip
        pipe = diffusers.StableDiffusionXLPipeline(**parts, add_watermarker=False)
    pipe.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_control(tiny_sd, tmp_path_factory):
    """Folder of a ControlNet for :func:`tiny_sd` that is not silent, as an untrained one is."""
    torch = pytest.importorskip("torch")
    from diffusers import ControlNetModel, UNet2DConditionModel

    folder = tmp_path_factory.mktemp("control")
    with torch.random.fork_rng():
        torch.manual_seed(2)
        unet = UNet2DConditionModel.from_pretrained(tiny_sd / "unet")
        control = ControlNetModel.from_unet(unet, conditioning_embedding_out_channels=(8, 16, 16))
        for weight in control.parameters():
            if not bool(weight.any()):
                weight.data.normal_(std=0.1)
    control.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_adapter(tiny_sd, tmp_path_factory):
    """An IP-Adapter for :func:`tiny_sd`: file of its weights, and folder of its image encoder."""
    torch = pytest.importorskip("torch")
    from diffusers import UNet2DConditionModel
    from safetensors.torch import save_file
    from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

    folder = tmp_path_factory.mktemp("adapter")
    with torch.random.fork_rng():
        torch.manual_seed(3)
        encoder = CLIPVisionModelWithProjection(
            CLIPVisionConfig(
                hidden_size=32,
                intermediate_size=37,
                projection_dim=32,
                num_hidden_layers=2,
                num_attention_heads=4,
                image_size=32,
                patch_size=8,
            )
        )
        encoder.save_pretrained(folder / "encoder")
        unet = UNet2DConditionModel.from_pretrained(tiny_sd / "unet")
        tensors = {
            "image_proj.proj.weight": torch.randn(4 * 32, 32),
            "image_proj.proj.bias": torch.randn(4 * 32),
            "image_proj.norm.weight": torch.ones(32),
            "image_proj.norm.bias": torch.zeros(32),
        }
        layers = [name for name in unet.attn_processors if name.endswith("attn2.processor")]
        for index, name in enumerate(layers):
            width = unet.get_submodule(name.removesuffix(".processor")).to_k.out_features
            for part in ("to_k_ip", "to_v_ip"):
                tensors[f"ip_adapter.{2 * index + 1}.{part}.weight"] = torch.randn(width, 32)
    save_file(tensors, folder / "adapter.safetensors")
    return folder / "adapter.safetensors", folder / "encoder"
