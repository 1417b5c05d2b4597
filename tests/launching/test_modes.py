"""What `finetune launch` takes and refuses, before anything is started."""

import shlex
from pathlib import Path

import pytest

from finetune.errors import DeviceError, SettingError
from finetune.launching import Nodes, build_launch, check_config, default_mode, find_mode, nodes_of
from finetune.launching.checks import number_of_processes
from finetune.launching.nodes import Endpoint, parse_endpoint
from finetune.shipped import shipped_configs

ROOT = Path(__file__).parents[2]
NEEDS_SEVERAL = {"rank": 0, "rendezvous": "node1:29500"}


@pytest.fixture
def own_config(tmp_path):
    """A function that writes a configuration of Accelerate, and returns its path."""

    def write(text, name="own.yaml"):
        path = tmp_path / name
        path.write_text(text, encoding="utf-8")
        return str(path)

    return write


@pytest.mark.parametrize(
    ("gpus", "machines", "name"),
    [
        (0, 1, "cpu"),
        (1, 1, "single_gpu"),
        (8, 1, "multi_gpu"),
        (8, 2, "multi_node"),
        (1, 2, "multi_node"),
        (0, 2, "cpu_2_processes"),
    ],
)
def test_by_default_all_there_is_is_used(gpus, machines, name):
    assert default_mode(gpus, machines=machines) == name
    assert find_mode(name).path == ROOT / "accelerate_configs" / f"{name}.yaml"


@pytest.mark.parametrize(
    ("on", "message"),
    [
        ("mutli_gpu", r'--on: "mutli_gpu" is not one of cpu, .* \(did you mean multi_gpu\?\)'),
        ("deepspeed_zero3", "DeepSpeed keeps the optimizer's state .* take fsdp2"),
        ("tensor_parallel", "takes examples of its own, and parts of none; .* take fsdp2"),
        ("absent.yaml", r"--on: absent.yaml: can't be read \(No such file or directory\)"),
    ],
)
def test_an_unknown_mode(on, message):
    with pytest.raises(SettingError, match=message):
        find_mode(on)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [", "not YAML"),
        ("mixed_precision: bf16", "it has no distributed_type"),
        ("distributed_type: NO", "distributed_type: False is no word; in YAML NO is one in quotes: 'NO'"),
        ("distributed_type: MULTI_CPU", "starts one process alone"),
        ("distributed_type: DEEPSPEED", "DeepSpeed keeps"),
    ],
)
def test_a_configuration_that_no_run_can_be_launched_by(own_config, text, message):
    with pytest.raises(SettingError, match=f"--on: .*own.yaml: .*{message}"):
        find_mode(own_config(text))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("distributed_type: FSDP\nfsdp_config: {fsdp_versio: 2}", r"fsdp_versio: unknown key \(did you mean fsdp_vers"),
        ("distributed_type: FSDP\nfsdp_config: {versions: 2}", r"fsdp_versions: unknown key"),
        ("distributed_type: FSDP\nfsdp_confg: {}", r"fsdp_confg: unknown key \(did you mean fsdp_config\?\)"),
        ("distributed_type: MULTI\nuse_cpu: true", "Accelerate can't read it: 'MULTI' is not a valid DistributedType"),
    ],
)
def test_what_accelerate_does_not_know(own_config, text, message):
    with pytest.raises(SettingError, match=message):
        check_config(find_mode(own_config(text)))


def test_the_shipped_configurations_and_short_keys_are_known(own_config):
    for name in shipped_configs():
        check_config(find_mode(name))
    check_config(find_mode(own_config("distributed_type: FSDP\nfsdp_config: {version: 2}")))


@pytest.mark.parametrize(
    ("on", "asked", "gpus", "processes"),
    [
        ("cpu", None, 0, 1),
        ("cpu_2_processes", None, 0, 2),
        ("cpu_2_processes", 3, 0, 3),
        ("single_gpu", None, 8, 1),
        ("multi_gpu", None, 8, 8),
        ("multi_gpu", None, 1, 1),
        ("multi_gpu", 3, 8, 3),
        ("multi_node", None, 4, 4),
        ("fsdp2", None, 4, 4),
    ],
)
def test_a_process_for_each_gpu_unless_asked_otherwise(on, asked, gpus, processes):
    assert number_of_processes(find_mode(on), asked, gpus=gpus) == processes


@pytest.mark.parametrize(("extra", "processes"), [("num_processes: 4", 4), ("gpu_ids: '0,3'", 2), ("", 8)])
def test_a_configuration_of_ones_own_is_heeded(own_config, extra, processes):
    path = own_config(f"distributed_type: MULTI_GPU\n{extra}")
    assert number_of_processes(find_mode(path), None, gpus=8) == processes


@pytest.mark.parametrize(
    ("on", "asked", "gpus", "message"),
    [
        ("multi_gpu", 4, 2, "--processes: 4 is more than the 2 GPUs that can be used, and each process needs one"),
        ("multi_gpu", None, 0, "--on: multi_gpu needs GPUs, and none can be seen; without any, take --on cpu or cpu_2"),
        ("fsdp2", None, 0, "--on: fsdp2 needs GPUs, and none can be seen; .* which shard nothing"),
        ("multi_gpu", 0, 2, "--processes: 0 is not 1 or more"),
        ("cpu", 2, 0, "--processes: 2: cpu is for one process; several take --on cpu_2_processes"),
        ("single_gpu", 2, 8, "--processes: 2: single_gpu is for one process; several take --on multi_gpu"),
    ],
)
def test_devices_that_are_not_there(monkeypatch, on, asked, gpus, message):
    for name in ("ACCELERATE_USE_CPU", "CUDA_VISIBLE_DEVICES"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises((DeviceError, SettingError), match=message):
        number_of_processes(find_mode(on), asked, gpus=gpus)


def test_where_gpus_are_hidden_the_message_says_so(monkeypatch):
    monkeypatch.delenv("ACCELERATE_USE_CPU", raising=False)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    with pytest.raises(DeviceError, match=r"the 1 GPU that can be used \(CUDA_VISIBLE_DEVICES=1\)"):
        number_of_processes(find_mode("multi_gpu"), 2, gpus=1)


@pytest.mark.parametrize(
    ("on", "given", "message"),
    [
        ("multi_node", {}, "--rank: missing: which of the 2 machines is this one"),
        ("multi_node", {"machines": 4, "rank": 4}, "--rank: 4 is not from 0 to 3"),
        ("multi_node", {"rank": 1}, "--rendezvous: missing"),
        ("multi_gpu", {"rank": 1}, "--machines: 1: --rank and --rendezvous are for several"),
        ("cpu", {"machines": 2, **NEEDS_SEVERAL}, "--machines: 2: cpu is for one process; .* --on cpu_2_processes"),
        ("multi_gpu", {"machines": 0}, "--machines: 0 is not 1 or more"),
        ("multi_gpu", {"join_timeout": 0}, "--join-timeout: 0 is not 1 or more"),
        ("single_gpu", {"max_restarts": 1}, "--max-restarts: 1: single_gpu is for one process"),
    ],
)
def test_machines_that_do_not_go_together(on, given, message):
    with pytest.raises(SettingError, match=message):
        nodes_of(find_mode(on), **given)


@pytest.mark.parametrize("text", ["node1", ":29500", "node1:", "node1:0", "node1:65536", "node1:http", "::1:29500"])
def test_no_place_to_meet(text):
    with pytest.raises(SettingError, match="is not HOST:PORT, such as node1:29500"):
        parse_endpoint(text)


@pytest.mark.parametrize(
    ("text", "host"), [("node1:29500", "node1"), ("10.0.0.1:29500", "10.0.0.1"), ("[::1]:29500", "::1")]
)
def test_places_to_meet(text, host):
    assert parse_endpoint(text) == Endpoint(host, 29500)
    assert str(Endpoint(host, 29500)) == text


def test_the_command_on_one_machine(monkeypatch):
    monkeypatch.chdir(ROOT)
    command = build_launch(find_mode("fsdp2"), processes=4, nodes=Nodes(), arguments=["r.yaml", "schedule.name=a b"])
    assert str(command) == (
        "accelerate launch --config_file accelerate_configs/fsdp2.yaml --num_processes 4 finetune/run.py r.yaml "
        "'schedule.name=a b'"
    )


def test_one_process_needs_no_agent(monkeypatch):
    monkeypatch.chdir(ROOT)
    command = build_launch(find_mode("cpu"), processes=1, nodes=Nodes(), arguments=["r.yaml"])
    assert str(command) == "accelerate launch --config_file accelerate_configs/cpu.yaml finetune/run.py r.yaml"


def test_the_command_on_several_machines(monkeypatch):
    monkeypatch.chdir(ROOT)
    monkeypatch.delenv("GLOO_SOCKET_IFNAME", raising=False)
    nodes = Nodes(2, 1, Endpoint("node1", 29500), join_timeout=60, max_restarts=3, address="10.0.0.2", interface="eth0")
    command = build_launch(find_mode("cpu_2_processes"), processes=2, nodes=nodes, arguments=["r.yaml"])
    variables, _, words = str(command).partition("accelerate ")
    assert dict(word.split("=") for word in shlex.split(variables)) == {
        "ACCELERATE_USE_CPU": "true",
        "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1",
        "PET_LOCAL_ADDR": "10.0.0.2",
        "GLOO_SOCKET_IFNAME": "eth0",
    }
    assert words == (
        "launch --config_file accelerate_configs/cpu_2_processes.yaml --num_processes 4 --num_machines 2 "
        "--machine_rank 1 --main_process_ip node1 --main_process_port 29500 --rdzv_backend c10d --rdzv_conf "
        "join_timeout=60,is_host=false --max_restarts 3 finetune/run.py r.yaml"
    )
