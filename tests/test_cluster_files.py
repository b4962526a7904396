"""The job files for clusters: their form, and the commands that they run."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
import yaml

from red_cli.recipe.load import load_recipe

CLUSTER = Path(__file__).parents[1] / "scripts" / "cluster"
SLURM = CLUSTER / "train.slurm"


def program(folder: Path, name: str, text: str) -> None:
    path = folder / name
    path.write_text(f"#!/bin/bash\n{text}\n")
    path.chmod(0o755)


def run_slurm(tmp_path: Path, *arguments: str, code: int = 0) -> subprocess.CompletedProcess[str]:
    """Run the job file with stand-ins for Slurm's programs and a `red` that prints its arguments."""
    programs = tmp_path / "programs"
    programs.mkdir()
    program(programs, "scontrol", 'if [ "$1" = show ]; then echo node7; echo node8; else echo "scontrol $*"; fi')
    program(programs, "srun", 'while [[ "$1" == --* ]]; do shift; done; SLURM_NODEID=1 "$@"')
    program(programs, "red", f'printf "%s\\n" "$@"; exit {code}')
    environment = {
        "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}", "SLURM_JOB_NODELIST": "node[7-8]",
        "SLURM_JOB_NUM_NODES": "2", "SLURM_GPUS_ON_NODE": "4", "SLURM_JOB_ID": "123",
    }  # fmt: skip
    return subprocess.run(
        ["bash", str(SLURM), *arguments], env=environment, capture_output=True, text=True, check=False
    )


def test_slurm_directives() -> None:
    directives = [line.split(maxsplit=1)[1] for line in SLURM.read_text().splitlines() if line.startswith("#SBATCH")]
    options = dict(directive.removeprefix("--").partition("=")[::2] for directive in directives)
    assert options["ntasks-per-node"] == "1"  # red starts the others itself
    assert options["signal"] == "USR1@90"
    assert options["requeue"] == ""


def test_what_slurm_runs(tmp_path: Path, recipe: Path) -> None:
    outcome = run_slurm(tmp_path, str(recipe), "train.seed=7", "data.name=two words")
    assert outcome.returncode == 0, outcome.stderr
    command, given, *overrides = outcome.stdout.splitlines()
    assert (command, given) == ("train", str(recipe))
    launch = load_recipe(given, None, overrides).recipe.launch
    assert (launch.num_machines, launch.machine_rank, launch.num_processes) == (2, 1, 8)
    assert (launch.main_process_ip, launch.main_process_port) == ("node7", 20123)


@pytest.mark.parametrize(("code", "again"), [(130, True), (1, False)])
def test_a_job_that_was_stopped_goes_back_into_the_queue(tmp_path: Path, code: int, again: bool) -> None:
    outcome = run_slurm(tmp_path, "recipe.yaml", code=code)
    assert outcome.returncode == code
    assert ("scontrol requeue 123" in outcome.stdout) == again


def test_slurm_without_a_recipe(tmp_path: Path) -> None:
    assert run_slurm(tmp_path).returncode == 2


def test_kubernetes(recipe: Path) -> None:
    job = yaml.safe_load((CLUSTER / "train.yaml").read_text())
    assert (job["apiVersion"], job["kind"]) == ("jobset.x-k8s.io/v1alpha2", "JobSet")
    (machines,) = job["spec"]["replicatedJobs"]
    indexed = machines["template"]["spec"]
    assert indexed["completionMode"] == "Indexed"
    assert indexed["parallelism"] == indexed["completions"] == 2
    pod = indexed["template"]["spec"]
    assert pod["restartPolicy"] == "Never"
    (container,) = pod["containers"]
    mounted = {mount["name"] for mount in container["volumeMounts"]}
    assert mounted == {volume["name"] for volume in pod["volumes"]}
    words = container["args"][0].replace("$JOB_COMPLETION_INDEX", "1").split()
    assert words[:3] == ["exec", "red", "train"]
    launch = load_recipe(str(recipe), None, words[4:]).recipe.launch
    assert (launch.num_machines, launch.machine_rank) == (indexed["completions"], 1)
    assert launch.num_processes == launch.num_machines * container["resources"]["limits"]["nvidia.com/gpu"]
    name = job["metadata"]["name"]
    assert launch.main_process_ip == f"{name}-{machines['name']}-0-0.{name}"
