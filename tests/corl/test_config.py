"""Every message of the configuration's reader, overrides, and the way back to YAML."""

from pathlib import Path

import pytest
import yaml

from corl.config import Config, dump_config, load_config, weights_mode

CONFIGS = sorted((Path(__file__).resolve().parents[2] / "configs").glob("*.yaml"))
RL = {"optim": {"lr": 1e-3}, "mix": {"by": "difficulty"}, "max_steps": 5, "prompts_per_step": 4}
PLAIN = {
    "stages": ["cold_start", "rl1"],
    "run": {"dir": "runs/x"},
    "model": {"path": "models/x"},
    "data": {"train": ["a.jsonl"], "dev": ["b.jsonl"], "traces": ["t.jsonl"]},
    "cold_start": {"optim": {"lr": 1e-3}},
    "rl1": RL,
}


@pytest.fixture
def load(tmp_path: Path):
    """load(*overrides): PLAIN read from a file."""
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(PLAIN))
    return lambda *overrides: load_config(tmp_path / "c.yaml", overrides)


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_configuration_of_the_project_holds_and_comes_back_equal(path: Path, tmp_path: Path) -> None:
    config = load_config(path)
    (tmp_path / "again.yaml").write_text(dump_config(config))
    assert load_config(tmp_path / "again.yaml") == config


def test_the_project_has_configurations() -> None:
    assert {"demo", "pubmedqa_example"} <= {path.stem for path in CONFIGS}


def test_defaults_are_those_of_the_classes(load) -> None:
    config = load()
    assert isinstance(config, Config)
    assert (config.model.dtype, config.rl1.group_size, config.rl1.objective.kind) == ("bfloat16", 8, "reinforce")
    assert config.cold_start.optim.betas == (0.9, 0.95) and config.rl2 is None


def test_overrides_reach_values_sections_and_lists(load) -> None:
    config = load(
        "rl1.optim.lr=2.5e-4", "eval.limit=7", "rl1.objective={kind: grpo, kl_coef: 0.1}", "data.train=[x, y]",
        "mine.samples=2", "cold_start.optim.betas=[0.8, 0.9]", "data.system=be brief = be good", "rl1.plateau=null",
    )  # fmt: skip
    assert config.rl1.optim.lr == 2.5e-4 and config.eval.limit == 7 and config.rl1.plateau is None
    assert (config.rl1.objective.kind, config.rl1.objective.kl_coef) == ("grpo", 0.1)
    assert config.data.train == ["x", "y"] and config.mine.samples == 2 and config.data.system == "be brief = be good"
    assert config.cold_start.optim.betas == (0.8, 0.9)


def test_a_whole_number_is_a_number(load) -> None:
    config = load("rl1.mix.hard=2")
    assert config.rl1.mix.hard == 2.0 and isinstance(config.rl1.mix.hard, float)


@pytest.mark.parametrize(("overrides", "mode"), [
    ([], "arena"), (["parallel.reshard_after_forward=false"], "shared"), (["rollout.weights=arena"], "arena"),
    (["parallel.reshard_after_forward=false", "rollout.weights=shared"], "shared"),
    (["parallel.reshard_after_forward=false", "rollout.weights=arena"], "arena"),
    (["parallel.reshard_after_forward=false", "rollout.tensor_parallel=2"], "arena"),
])  # fmt: skip
def test_the_engine_shares_weights_that_stay_gathered(load, overrides, mode) -> None:
    assert weights_mode(load(*overrides)) == mode


@pytest.mark.parametrize(("overrides", "message"), [
    (["parallel.reshard_after_forward=false", "rollout.weights=shared"], r"shared reads whole parameters, .* 2 needs"),
    (["model.exact=true"], r"rollout.tensor_parallel: 2 adds up in another order .* model.exact true rules out"),
])  # fmt: skip
def test_slices_rule_out_shared_weights_and_exact_mode(load, overrides, message) -> None:
    load("rollout.tensor_parallel=2")
    with pytest.raises(ValueError, match=message):
        load(*overrides, "rollout.tensor_parallel=2")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        # what a value is
        ("rl1.optim.lr=1e-6", r"rl1.optim.lr: expected a number, got '1e-6' \(str\); YAML reads 1e-6 as text.*1.0e-6"),
        ("rl1.optim.lr=fast", r"rl1.optim.lr: expected a number, got 'fast' \(str\)$"),
        ("rl1.optim.lr=true", r"rl1.optim.lr: expected a number, got True"),
        ("rl1.optim.lr=.inf", r"rl1.optim.lr: inf is not a finite number"),
        ("rl1.temperature=.nan", r"rl1.temperature: nan is not a finite number"),
        ("rl1.max_steps=2.5", r"rl1.max_steps: expected a whole number, got 2.5 \(float\)"),
        ("rl1.max_steps=null", r"rl1.max_steps: expected a whole number, got None"),
        ("rl1.max_steps=1e3", r"rl1.max_steps: expected a whole number, got '1e3' \(str\); YAML reads 1e3 as text"),
        ("rl1.divide_by_std=1", r"rl1.divide_by_std: expected true or false, got 1"),
        ("run.dir=2024-01-01", r"run.dir: expected text, got datetime.date"),
        ("data.train=a.jsonl", r"data.train: expected a list, got 'a.jsonl'"),
        ("data.train=[1]", r"data.train\[0\]: expected text, got 1"),
        ("cold_start.optim.betas=[0.9]", r"cold_start.optim.betas: expected a list of 2, got \[0.9\]"),
        ("cold_start.mix=[easy]", r"cold_start.mix: expected a section of keys, got \['easy'\]"),
        ("cold_start.mix={hard: 1}", r"cold_start.mix: 'hard' \(str\) is not one of easy, moderate, difficult"),
        ("rl1.optim=0.1", r"rl1.optim: expected a section of keys, got 0.1"),
        ("model.dtype=fp8", r"model.dtype: 'fp8' \(str\) is not one of float32, bfloat16"),
        ("stages=[cold_start, rl3]", r"stages\[1\]: 'rl3' \(str\) is not one of"),
        # keys
        ("rl1.optim.learning_rate=0.1", r"unknown key rl1.optim.learning_rate; allowed here: lr, warmup_steps"),
        ("rl3={}", r"unknown key rl3; allowed here: stages, run"),
        ("rl1.objective.kl.coef=1", r"unknown key rl1.objective.kl; allowed here: kind"),
        ("rl1={max_steps: 3}", r"missing key rl1.optim"),
        ("stages=[cold_start, rl1, rl2]", r"missing key rl2: it is named in stages"),
        # overrides
        ("rl1.max_steps", r"override 'rl1.max_steps': expected key.sub=value"),
        ("=3", r"override '=3': expected key.sub=value"),
        ("rl1.max_steps.x=3", r"override 'rl1.max_steps.x=3': max_steps is a value, not a section"),
        ("rl1.max_steps=[3", r"override 'rl1.max_steps=\[3': not YAML"),
        # ranges
        ("run.seed=-1", r"run.seed: -1 is not in 0"),
        ("data.prompt_tokens=0", r"data.prompt_tokens: 0 is not above 0"),
        ("parallel.tokens_per_micro_batch=0", r"parallel.tokens_per_micro_batch: 0 is not above 0"),
        ("rollout.kv_tokens=0", r"rollout.kv_tokens: 0 is not above 0"),
        ("rollout.check_sequences=-1", r"rollout.check_sequences: -1 is negative; 0 is off"),
        ("rollout.max_gap=0", r"rollout.max_gap: 0.0 is not above 0; null sets no bound, model.exact asks for"),
        ("rollout.tensor_parallel=3", r"rollout.tensor_parallel: 3 \(int\) is not one of 1, 2, 4, 8"),
        ("rollout.weights=shared", r"rollout.weights: shared reads .* set that to false, or use rollout.weights arena"),
        ("rollout.oversample=0.9", r"rollout.oversample: 0.9 is below 1"),
        ("eval.every=0", r"eval.every: 0 is not above 0"),
        ("eval.limit=0", r"eval.limit: 0 is not above 0"),
        ("max_bad_steps=0", r"yaml: max_bad_steps: 0 is not above 0"),
        ("cold_start.max_steps=0", r"cold_start.max_steps: 0 is not above 0"),
        ("cold_start.dev_every=-5", r"cold_start.dev_every: -5 is not above 0"),
        ("rl1.tier_samples=0", r"rl1.tier_samples: 0 is not above 0"),
        ("rl1.plateau={window: 0}", r"rl1.plateau.window: 0 is not above 0"),
        ("rl1.replace_rounds=-1", r"rl1.replace_rounds: -1 is negative"),
        ("rl1.temperature=0", r"rl1.temperature: 0.0; sampling for a gradient needs one above 0"),
        ("rl1.group_size=1", r"rl1.group_size: 1; a group baseline needs at least 2"),
        ("rl1.optim.lr=0", r"rl1.optim.lr: 0.0 is not above 0"),
        ("rl1.optim.eps=0", r"rl1.optim.eps: 0.0 is not above 0"),
        ("rl1.optim.warmup_steps=-1", r"rl1.optim.warmup_steps: -1 is negative"),
        ("rl1.optim.min_lr_ratio=1.5", r"rl1.optim.min_lr_ratio: 1.5 is not in 0 .. 1"),
        ("rl1.optim.betas=[0.9, 1.0]", r"rl1.optim.betas: \(0.9, 1.0\); both must be in"),
        ("rl1.mix.wrong_below=2", r"rl1.mix.wrong_below: 2.0 is no pass rate"),
        ("rl1.mix={by: difficulty, hard: 0, simple: 0}", r"rl1.mix: a ratio needs two shares"),
        ("rl1.mix={by: difficulty, hard: -1}", r"rl1.mix: a ratio needs two shares"),
        ("mine={temperature: -1}", r"mine.temperature: -1.0 is negative"),
        ("mine={samples: 0}", r"mine.samples: 0 is not above 0"),
        ("cold_start.mix={}", r"cold_start.mix: no share may be negative, and one must be above 0"),
        ("cold_start.mix={easy: 2, difficult: -1}", r"cold_start.mix: no share may be negative"),
        # pairs that contradict each other
        ("stages=[]", r"stages: empty"),
        ("stages=[rl1, rl1]", r"stages: \['rl1', 'rl1'\] names a stage twice"),
        ("stages=[rl1, cold_start]", r"out of order; write \['cold_start', 'rl1'\]"),
        ("data.traces=[]", r"data.traces: empty; stage cold_start trains on traces"),
        ("cold_start.stop_at={accuracy: 0.5}", r"cold_start.stop_at needs cold_start.dev_every"),
        ("eval.every=5", r"eval.every needs data.held_out"),
        ("rl1.updates_per_rollout=3", r"updates_per_rollout: 3 does not divide prompts_per_step 4"),
        ("rl1.updates_per_rollout=2", r"updates_per_rollout: 2 leaves the policy behind its samples"),
        ("rl1.objective.importance=sequence", r"rl1.objective: kind reinforce has no importance ratio"),
        ("rl1.mix.mine_every=5", r"rl1.mix.mine_every is set but rl1.mix.by is difficulty"),
        ("rl1.mix={by: mined, mine_every: 5}", r"missing key mine: rl1.mix.mine_every mines with its settings"),
        ("rl1.mix.hard_tiers=[easy]", r"rl1.mix.hard_tiers: easy is the simple side"),
        (
            "rollout.oversample=1.5",
            r"oversample: 1.5 trains on tokens of older weights, which rl1 does not correct; set",
        ),
    ],
)
def test_a_wrong_value_is_refused_by_name(load, override: str, message: str) -> None:
    with pytest.raises(ValueError, match=message) as refused:
        load(override)
    assert "\n" not in str(refused.value)


def test_pairs_that_take_two_keys_to_contradict(load) -> None:
    with pytest.raises(ValueError, match="old_logprobs: engine has none"):
        load("rl1.objective={kind: grpo, rollout_correction: mask}", "rl1.old_logprobs=engine")
    with pytest.raises(ValueError, match="oversample: 1.5 with rl1.zero_variance replace"):
        load("rollout.oversample=1.5", "rl1.objective.rollout_correction=mask", "rl1.zero_variance=replace")
    with pytest.raises(ValueError, match="oversample: 1.5 trains on tokens of older weights"):
        load("rollout.oversample=1.5", "rl1.old_logprobs=engine")  # reinforce has no ratio
    with pytest.raises(ValueError, match="cold_start.dev_every needs data.dev"):
        load("cold_start.dev_every=5", "data.dev=[]")


def test_over_sampling_holds_where_older_weights_are_corrected(load) -> None:
    over = "rollout.oversample=1.5"
    assert load(over, "rl1.objective.rollout_correction=mask").rollout.oversample == 1.5
    assert load(over, "rl1.objective.kind=grpo", "rl1.old_logprobs=engine").rl1.zero_variance == "keep"
    # a stage that does not run needs nothing
    assert load(over, "stages=[cold_start]").rl1.objective.rollout_correction is None


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"stages: [rl1\nrun: x", r"not YAML: while parsing"),
        (b"run: {dir: \xff}", r"not YAML: 'utf-8' codec can't decode"),
        (b"", r"expected a mapping of sections, got NoneType"),
        (b"- rl1\n", r"expected a mapping of sections, got list"),
        (b"run: {dir: a, dir: b}\n", r"key dir stands twice; keep one .*line 1"),
        (b"max_bad_steps: 1\nrun: {dir: a}\nmax_bad_steps: 2\n", r"key max_bad_steps stands twice"),
        (b"1: {dir: a}\n", r"unknown key 1; allowed here"),
    ],
    ids=["unclosed", "not utf-8", "empty", "list", "twice inside", "twice", "number as key"],
)
def test_a_file_that_is_no_configuration(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "c.yaml").write_bytes(content)
    with pytest.raises(ValueError, match=message) as refused:
        load_config(tmp_path / "c.yaml")
    assert "\n" not in str(refused.value) and "c.yaml" in str(refused.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"config .*nowhere.yaml: no such file"):
        load_config(tmp_path / "nowhere.yaml")
