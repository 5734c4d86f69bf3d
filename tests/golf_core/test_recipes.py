"""Every recipe and grid: its size, its bundle, a whole tiny run from that bundle, and a rehearsal at full size."""

import json
from dataclasses import replace

import pytest
import torch

from golf_core.bundle import build_bundle
from golf_core.bundle_pack import readable_source
from golf_core.config import ArtifactConfig, Config, TTTConfig
from golf_core.config_io import from_dict, override, to_dict
from golf_core.config_quant import QuantConfig
from golf_core.data.shards import BOS_ID
from golf_core.fields import ConfigError, chosen_parts
from golf_core.inventory import take_inventory, tensor_shapes
from golf_core.model.gpt import GPT
from golf_core.parts import load_parts
from golf_core.recipes import GRIDS, RECIPES, Recipe, default_recipe, load_grid, load_recipe
from tests.golf_core.forked import run_forked
from tests.golf_core.test_pipeline import environment, run_both_stages, run_bundle, scores_of
from tests.golf_core.tiny import tiny

PARAMETERS = {
    "naive_baseline": 17_059_912,
    "long_context_4096": 18_897_488,
    "qat_int4_16l": 29_921_408,
    "legal_ttt": 26_928_220,
    "shared_kv_16l": 41_947_778,
    "int6_qat_warmdown": 26_501_720,
}
CAP = 16_000_000
VARIANTS: dict[str, Recipe] = {recipe.config.name: recipe for name in GRIDS for recipe in load_grid(name).recipes}
EVERY: dict[str, Recipe] = {name: load_recipe(name) for name in RECIPES} | VARIANTS


@pytest.mark.parametrize("name", PARAMETERS)
def test_a_recipe_has_its_published_size(name):
    """Parameters counted from the built model are the published number, and so are the plan's."""
    config = load_recipe(name).config
    with torch.device("meta"):
        model = GPT(config.model, load_parts(config))
    assert sum(p.numel() for p in model.parameters()) == PARAMETERS[name]
    assert take_inventory(config).parameters == PARAMETERS[name]


@pytest.mark.parametrize("name", EVERY)
def test_the_plan_knows_every_tensor(name):
    """The tensors that a plan counts without building anything are those of the built model's state dict."""
    config = EVERY[name].config
    with torch.device("meta"):
        model = GPT(config.model, load_parts(config))
    assert tensor_shapes(config.model) == {k: tuple(v.shape) for k, v in model.state_dict().items()}


def test_sizes_against_the_cap():
    """By the plan's estimate, code included, the 16-layer model of shared projections cannot fit in 16,000,000 bytes;
    its stand-in and the default recipe of GPUs fit."""
    total = {n: take_inventory(EVERY[n].config).model_bytes + len(build_bundle(EVERY[n].config)) for n in RECIPES}
    assert total["shared_kv_16l"] > 1.1 * CAP
    for name in ("legal_ttt", "shared_kv_12l", "naive_baseline", "qat_int4_16l", "int6_qat_warmdown"):
        assert total[name] <= CAP, name


@pytest.mark.parametrize("name", EVERY)
def test_a_recipe_says_where_it_comes_from(name):
    """A recipe of others carries what they published and its status; every config survives JSON."""
    recipe = EVERY[name]
    assert recipe.source
    assert recipe.published or recipe.config.name == "demo"
    assert from_dict(Config, json.loads(json.dumps(to_dict(recipe.config)))) == recipe.config
    assert recipe.target in ("cpu", "H100:1", "H100:8")


def test_grids_are_what_was_asked():
    """int6_ablation has five variants for one H100, full_sota_4096 six; the GPU's default recipe is legal_ttt."""
    assert [len(load_grid(name).recipes) for name in ("int6_ablation", "full_sota_4096")] == [5, 6]
    assert load_grid("int6_ablation").target == "H100:1"
    assert [r.published.value for r in load_grid("int6_ablation").recipes] == [1.3761, 1.3796, 1.3874, 1.3267, 1.3436]
    assert (default_recipe("cpu"), default_recipe("cuda")) == ("demo", "legal_ttt")
    with pytest.raises(ConfigError, match="did you mean 'legal_ttt'"):
        load_recipe("legal_tt")


@pytest.mark.parametrize("name", EVERY)
def test_a_bundle_holds_what_the_recipe_uses(name):
    """A module of a technique is in the bundle exactly where the config names it."""
    source = readable_source(build_bundle(EVERY[name].config))
    inside = {line[2:] for line in source.splitlines() if line.startswith("# golf_core/")}
    used = {place.split(":")[0].replace(".", "/") + ".py" for _, place in chosen_parts(EVERY[name].config)}
    every_part = {
        f"golf_core/{module}.py"
        for module in (
            *("model/leaky", "model/partial_rope", "model/xsa", "model/value_residual", "model/attn_gate"),
            *("model/smear", "model/hash_embed", "model/value_embed", "model/init", "model/flash"),
            *("optim/parallel_muon", "optim/ema", "optim/swa", "data/coprime_loader", "quant/clip_search"),
            *("quant/gptq", "quant/calibrate", "quant/qat", "quant/nibbles", "quant/prune", "artifact/budget"),
            *("artifact/lzma_codec", "artifact/zlib_codec", "artifact/zstd_codec", "artifact/brotli_codec"),
            *("evaluate/chunk_ttt", "evaluate/lora_ttt", "evaluate/unscored_ttt"),
        )
    }
    assert used <= inside
    assert inside & every_part == used & every_part


def model_of(config: Config) -> tuple:
    """What of a config makes the model: its section, and the modules behind it."""
    return config.model, tuple(part for part in chosen_parts(config) if part[0].startswith("model."))


DISTINCT = list({model_of(tiny(recipe.config)): name for name, recipe in reversed(EVERY.items())}.values())[::-1]


@pytest.mark.parametrize("name", DISTINCT)
def test_a_recipe_compiles_as_one_graph(name):
    """The GPU's forward and backward pass is traced without a break (four layers, shapes only; recipes whose models are
    then the same are one)."""
    config = tiny(EVERY[name].config)
    with torch.device("meta"):
        model = GPT(config.model, load_parts(config), torch.bfloat16)
    ids = torch.zeros(2, 64, dtype=torch.int64, device="meta")
    loss = torch.compile(model, fullgraph=True, backend="eager", dynamic=False)(ids, ids)
    loss.backward()
    assert [n for n, p in model.named_parameters() if p.grad is None] == []
    torch.compiler.reset()


@pytest.mark.parametrize("name", EVERY)
def test_no_recipe_looks_ahead(name):
    """Changing a token changes no earlier logit of the recipe's whole model, to the bit, and does change its own; a
    sequence that ends earlier has the same logits."""
    config, generator = tiny(EVERY[name].config), torch.Generator().manual_seed(0)
    model = GPT(config.model, load_parts(config))
    model.init_weights(generator)
    ids = torch.randint(2, config.model.vocab, (1, 32), generator=generator)
    changed = ids.clone()
    changed[0, 19] = BOS_ID
    with torch.no_grad():
        for p in model.parameters():  # as after some training: nothing is zero
            p.add_(0.1 * torch.randn(p.shape, generator=generator))
        before, after = (model.logits(model.hidden(x)) for x in (ids, changed))
        alone = model.logits(model.hidden(ids[:, :19]))
    assert torch.equal(before[:, :19], after[:, :19])
    assert not torch.equal(before[:, 19:], after[:, 19:])
    torch.testing.assert_close(alone, before[:, :19], rtol=1e-4, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("name", [*RECIPES, *(pytest.param(name, marks=pytest.mark.whole) for name in VARIANTS)])
def test_a_tiny_run_from_the_bundle_reloads_to_the_same_scores(name, small_data, tmp_path):
    """Trained, averaged, rounded, compressed, reloaded and scored by the bundle alone; scored again from the artifact
    the losses are the same, to the bit."""
    config = tiny(EVERY[name].config)
    run_both_stages(tmp_path, config, small_data)
    scores = scores_of(tmp_path)
    stages = ["roundtrip", *(["sliding"] if config.evaluate.stride < config.evaluate.seq_len else [])]
    assert list(scores["stages"]) == stages + (["ttt"] if config.ttt.kind != "none" else [])
    assert scores["code_bytes"] == (tmp_path / "train_gpt.py").stat().st_size
    again = tmp_path / "again"
    again.mkdir()
    done = run_bundle(again, config, small_data, "evaluate", "--artifact", str(tmp_path / "artifact.bin"))
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    for stage, score in scores_of(again)["stages"].items():
        assert score["val_loss"] == scores["stages"][stage]["val_loss"]
        assert score["verdict"] == ("SCORE_FIRST_OK" if stage == "ttt" else "TRACK_A")


QUANT = QuantConfig(keep_numel=64)
SWITCHED = {
    "gptq_train": ["quant.rounding=gptq", "quant.calibration=train", "quant.calibration_seqs=4"],
    "gptq_self_sd": ["quant.rounding=gptq", "quant.calibration=self", "quant.calibration_seqs=4", "quant.clip=sd"],
    "mixed_5_6": ["quant.mlp_bits=5", "quant.attn_bits=6"],
    "mixed_8_6": ["quant.edge_layers=1", "quant.edge_bits=8", "quant.attn_bits=6", "quant.mlp_bits=6"],
    "bank_qat_tight_swa": [
        *("qat.kind=swap", "qat.tensors=matrices", "qat.start=begin"),
        *("average.kind=swa", "average.swa_below=0.9", "average.swa_every=1"),
    ],
    "lora_coprime": [
        *("ttt.kind=lora", "ttt.lora_chunk_tokens=16", "ttt.lora_documents=8", "ttt.lora_rank=2"),
        *("train.loader=coprime", "optim.muon=parallel"),
    ],
    "gates_residual": ["model.attn_gate=sparse", "model.value_residual=true", "model.smear=v2"],
}


PAIRS = [("naive_baseline", switch) for switch in SWITCHED]
PAIRS += [("shared_kv_12l", switch) for switch in ("gptq_train", "bank_qat_tight_swa", "lora_coprime")]


def plain(name: str) -> Config:
    """The tiny recipe with plain rounding and no learning at test time, for switches to be set on."""
    return tiny(replace(load_recipe(name).config, ttt=TTTConfig(), artifact=ArtifactConfig(), quant=QUANT))


@pytest.fixture(scope="module")
def plain_artifacts(tmp_path_factory, small_data) -> dict[str, bytes]:
    made = {}
    for name in dict(PAIRS):
        folder = tmp_path_factory.mktemp(name)
        assert run_bundle(folder, plain(name), small_data, "train").returncode == 0
        made[name] = (folder / "artifact.bin").read_bytes()
    return made


@pytest.mark.slow
@pytest.mark.parametrize(("name", "switch"), PAIRS)
def test_a_switch_runs_in_recipes_that_do_not_have_it(name, switch, plain_artifacts, small_data, tmp_path):
    """Techniques that no recipe names run whole in a plain recipe and in one with shared projections, and what is
    shipped is no more what it was."""
    run_both_stages(tmp_path, override(plain(name), SWITCHED[switch]), small_data)
    assert (tmp_path / "artifact.bin").read_bytes() != plain_artifacts[name]
    assert scores_of(tmp_path)["stages"]


IN_BF16 = {
    "legal_ttt": [],
    "shared_kv_12l": [*SWITCHED["lora_coprime"], *SWITCHED["gates_residual"]],
    "int6_qat_warmdown": [*SWITCHED["gptq_self_sd"], "quant.group_rows=1"],
}


@pytest.mark.slow
@pytest.mark.parametrize("name", IN_BF16)
def test_a_tiny_run_in_the_dtype_of_gpus(name, small_data, tmp_path):
    """With activations in bf16, emulated here, training, calibration, export and learning while scoring run whole."""
    config = override(tiny(load_recipe(name).config), IN_BF16[name])
    run_both_stages(tmp_path, config, small_data, "--dtype", "bf16")
    losses = [stage["val_loss"] for stage in scores_of(tmp_path)["stages"].values()]
    assert all(0 < loss < 8 for loss in losses)


REHEARSED = ["naive_baseline", "long_context_4096", "qat_int4_16l"]
REHEARSED_SLOWLY = ["legal_ttt", "shared_kv_16l", "shared_kv_12l", "int6_qat_warmdown", *VARIANTS]


@pytest.mark.slow
@pytest.mark.parametrize("name", [*REHEARSED, *(pytest.param(n, marks=pytest.mark.whole) for n in REHEARSED_SLOWLY)])
def test_a_full_size_recipe_is_rehearsed_without_a_gpu(name, tmp_path, small_data):
    """Built at full size, one forward and backward pass, rounded, compressed and reloaded to the same values; the
    size is reported with the code's bytes."""
    script = tmp_path / "train_gpt.py"
    script.write_text(build_bundle(EVERY[name].config))
    done = run_forked(script, "rehearse", env=environment(small_data, 1337), timeout=600)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    said = json.loads(done.stdout.splitlines()[-1])
    assert said["parameters"] == take_inventory(EVERY[name].config).parameters
    assert said["model_bytes_estimate"] == take_inventory(EVERY[name].config).model_bytes
    assert 6 < said["loss"] < 9
    assert said["total_bytes"] == said["model_bytes"] + script.stat().st_size
