"""The shipped Accelerate configurations, as Accelerate itself reads them."""

import copy
import os
import shlex
from pathlib import Path

import pytest
import yaml
from accelerate import ParallelismConfig
from accelerate.commands.config.config_args import load_config_from_file
from accelerate.commands.launch import _validate_launch_command, launch_command_parser
from accelerate.utils import FullyShardedDataParallelPlugin
from accelerate.utils.launch import prepare_multi_gpu_env, prepare_simple_launcher_cmd_env
from torch.distributed.run import get_args_parser

from finetune.shipped import shipped_configs

ROOT = Path(__file__).parents[1]
CONFIGS = sorted((ROOT / "accelerate_configs").glob("*.yaml"))
READERS = {"fsdp_config": FullyShardedDataParallelPlugin, "parallelism_config": ParallelismConfig}
PROCESSES = 6
MANY = "7919"


def launch_line(path, title="Run"):
    (line,) = [line for line in path.read_text(encoding="utf-8").splitlines() if line.startswith(f"# {title}:")]
    return shlex.split(line.removeprefix(f"# {title}:"))


def launch_arguments(path):
    """Returns what Accelerate makes of the launch line in the header of `path`."""
    words = launch_line(path)
    while "=" in words[0]:
        words.pop(0)
    assert words[:2] == ["accelerate", "launch"]
    return launch_command_parser().parse_args(words[2:])


def handed_on(content, folder):
    """Returns all that Accelerate's launcher hands on of a configuration: to processes, and to the agent above them."""
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    words = ["--config_file", str(path), "--num_machines", "1", "script.py"]
    if content["distributed_type"] != "NO":
        words[:0] = ["--num_processes", str(PROCESSES)]
    arguments, _, _ = _validate_launch_command(launch_command_parser().parse_args(words))
    prepare = prepare_multi_gpu_env if content["distributed_type"] != "NO" else prepare_simple_launcher_cmd_env
    made = prepare(arguments)
    environment = made if isinstance(made, dict) else made[1]
    agent = {action.dest for action in get_args_parser()._actions}
    return environment, {name: value for name, value in vars(arguments).items() if name in agent}


class Watched(dict):
    """An environment that remembers what was asked of it."""

    def __init__(self, content):
        super().__init__(content)
        self.asked = set()

    def get(self, key, default=None):
        self.asked.add(key)
        return super().get(key, default)

    def __getitem__(self, key):
        self.asked.add(key)
        return super().__getitem__(key)


def asked_for(reader, environment, monkeypatch):
    """Returns the variables that Accelerate asks for when it makes what the processes of a run go by."""
    watched = Watched(environment)
    with monkeypatch.context() as patch:
        patch.setattr(os, "environ", watched)
        reader()
    return watched.asked


def unread_keys(content, folder, monkeypatch):
    """Returns the nested keys that reach nothing which Accelerate reads, known by a value that stands nowhere else."""
    environment, _ = handed_on(content, folder)
    unread = []
    for section, keys in content.items():
        for key in keys if isinstance(keys, dict) else ():
            marked = copy.deepcopy(content)
            marked[section][key] = int(MANY)
            reached = {name for name, value in handed_on(marked, folder)[0].items() if MANY in value}
            asked = asked_for(READERS[section], environment, monkeypatch)
            if not reached & asked:
                unread.append(f"{section}.{key}")
    return unread


def test_the_configurations_are_those_that_are_documented_and_found():
    text = (ROOT / "docs" / "launching.md").read_text(encoding="utf-8")
    names = {path.stem for path in CONFIGS}
    assert names == {
        *("cpu", "cpu_2_processes", "single_gpu", "multi_gpu", "multi_node", "fsdp2", "fsdp2_cpu_offload"),
    }
    assert all(f"| `{name}` |" in text for name in names)
    assert shipped_configs() == {path.stem: path for path in CONFIGS}


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_accelerate_reads_it_and_knows_every_key(path):
    config = load_config_from_file(str(path))
    keys = yaml.safe_load(path.read_text(encoding="utf-8"))
    for key, value in keys.items():
        assert hasattr(config, key)
        read = getattr(config, key)
        assert str(getattr(read, "value", read)) == str(value)


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_nested_key_reaches_what_accelerate_reads(path, tmp_path, monkeypatch):
    assert unread_keys(yaml.safe_load(path.read_text(encoding="utf-8")), tmp_path, monkeypatch) == []


@pytest.mark.parametrize(
    ("section", "key"),
    [
        ("fsdp_config", "fsdp_bogus"),  # accelerate knows it not, and says nothing
        ("fsdp_config", "fsdp_use_orig_params"),  # FSDP1 alone reads it
        ("parallelism_config", "cp_size"),  # it lacks its beginning
    ],
)
def test_a_nested_key_that_accelerate_passes_over_is_found(tmp_path, monkeypatch, section, key):
    content = yaml.safe_load((ROOT / "accelerate_configs" / "fsdp2.yaml").read_text(encoding="utf-8"))
    content.setdefault(section, {"parallelism_config_dp_shard_size": PROCESSES} if section != "fsdp_config" else {})
    content[section][key] = 1
    assert unread_keys(content, tmp_path, monkeypatch) == [f"{section}.{key}"]


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_key_changes_what_is_launched(path, tmp_path):
    """A key that the launcher's own default beats, as rdzv_backend, would stand there for nothing."""
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    others = {"use_cpu": not content["use_cpu"], "gpu_ids": "4,5", "main_process_port": 29123, "num_processes": 5}
    for key in set(content) & set(others):
        words = ["--config_file", str(tmp_path / "other.yaml"), "script.py"]
        seen = []
        for value in (content[key], others[key]):
            (tmp_path / "other.yaml").write_text(yaml.safe_dump({"num_processes": 2, **content, key: value}))
            arguments, _, _ = _validate_launch_command(launch_command_parser().parse_args(words))
            seen.append(vars(arguments))
        assert seen[0] != seen[1], key


@pytest.mark.parametrize("key", ["rdzv_backend", "max_restarts"])
def test_what_accelerate_reads_from_the_command_line_alone_stands_in_none(key):
    assert not any(key in yaml.safe_load(path.read_text(encoding="utf-8")) for path in CONFIGS)


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_its_launch_line_names_itself_and_files_that_exist(path):
    arguments = launch_arguments(path)
    assert ROOT / arguments.config_file == path
    assert (ROOT / arguments.training_script).is_file()
    assert (ROOT / arguments.training_script_args[0]).is_file()
    short = launch_line(path, "Short")
    assert short[:2] == ["finetune", "launch"]
    assert (short[2], short[short.index("--on") + 1]) == (arguments.training_script_args[0], path.stem)


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_it_leaves_the_precision_to_the_recipe(path):
    assert load_config_from_file(str(path)).mixed_precision == "no"


@pytest.mark.parametrize("name", ["multi_gpu", "multi_node", "fsdp2", "fsdp2_cpu_offload"])
def test_accelerate_counts_no_gpus_where_the_file_says_nothing(name):
    words = ["--config_file", str(ROOT / "accelerate_configs" / f"{name}.yaml"), "script.py"]
    with pytest.raises(ValueError, match="manually pass in `--num_processes`"):
        _validate_launch_command(launch_command_parser().parse_args(words))


@pytest.mark.parametrize(
    ("name", "processes", "machines", "kind", "on_cpu"),
    [
        ("cpu", 1, 1, None, True),
        ("cpu_2_processes", 2, 1, "multi_gpu", True),
        ("single_gpu", 1, 1, None, False),
        ("multi_gpu", 2, 1, "multi_gpu", False),
        ("multi_node", 16, 2, "multi_gpu", False),
        ("fsdp2", 2, 1, "use_fsdp", False),
        ("fsdp2_cpu_offload", 2, 1, "use_fsdp", False),
    ],
)
def test_the_launcher_takes_it_as_it_is_meant(monkeypatch, name, processes, machines, kind, on_cpu):
    monkeypatch.chdir(ROOT)
    arguments, _, _ = _validate_launch_command(launch_arguments(ROOT / "accelerate_configs" / f"{name}.yaml"))
    assert (arguments.num_processes, arguments.num_machines, bool(arguments.use_cpu)) == (processes, machines, on_cpu)
    kinds = ("multi_gpu", "use_fsdp", "use_deepspeed")
    assert [each for each in kinds if getattr(arguments, each)] == [kind] * (kind is not None)


@pytest.mark.parametrize(("name", "offloads"), [("fsdp2", False), ("fsdp2_cpu_offload", True)])
def test_fsdp2_is_what_processes_are_told(tmp_path, monkeypatch, name, offloads):
    content = yaml.safe_load((ROOT / "accelerate_configs" / f"{name}.yaml").read_text(encoding="utf-8"))
    environment, _ = handed_on(content, tmp_path)
    for variable in ("FSDP_VERSION", "FSDP_OFFLOAD_PARAMS", "FSDP_CPU_RAM_EFFICIENT_LOADING"):
        monkeypatch.setenv(variable, environment[variable])
    monkeypatch.setenv("FSDP_AUTO_WRAP_POLICY", environment["FSDP_AUTO_WRAP_POLICY"])
    plugin = FullyShardedDataParallelPlugin()
    assert environment["ACCELERATE_USE_FSDP"] == "true"
    assert (plugin.fsdp_version, plugin.reshard_after_forward, plugin.cpu_ram_efficient_loading) == (2, True, False)
    assert type(plugin.cpu_offload).__name__ == (
        "CPUOffloadPolicy" if offloads else "bool" if plugin.cpu_offload is False else "OffloadPolicy"
    )
