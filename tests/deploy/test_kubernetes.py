"""The Kubernetes files: they keep to the schemas, fit each other, and name what the images and the server have."""

from __future__ import annotations

import re
import shlex
import subprocess
from pathlib import Path

import pytest
import yaml

from subgpt.serving.routes import OPEN
from subgpt.serving.settings import ServerSettings

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "deploy" / "kubernetes"
FILES = sorted(FOLDER.glob("*.yaml"))
DOCKERFILE = (ROOT / "deploy" / "docker" / "Dockerfile").read_text(encoding="utf-8")


def documents(name: str) -> dict[str, dict]:
    """The resources of a file, by kind."""
    return {each["kind"]: each for each in yaml.safe_load_all((FOLDER / name).read_text(encoding="utf-8"))}


def pods() -> list[tuple[str, dict]]:
    replicas = documents("mpijob.yaml")["MPIJob"]["spec"]["mpiReplicaSpecs"]
    found = [(name, spec["template"]["spec"]) for name, spec in replicas.items()]
    return [*found, ("Server", documents("serve.yaml")["Deployment"]["spec"]["template"]["spec"])]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_resources_keep_to_the_schemas_of_kubernetes(path):
    validate = pytest.importorskip("kubernetes_validate", reason="pip install kubernetes-validate")
    for resource in yaml.safe_load_all(path.read_text(encoding="utf-8")):
        if resource["kind"] == "MPIJob":
            for spec in resource["spec"]["mpiReplicaSpecs"].values():
                template = {"metadata": {}, **spec["template"]}
                template["spec"].setdefault("restartPolicy", "Never")
                job = {
                    "apiVersion": "batch/v1",
                    "kind": "Job",
                    "metadata": {"name": "a"},
                    "spec": {"template": template},
                }
                validate.validate(job, "1.34", strict=True)
        else:
            validate.validate(resource, "1.34", strict=True)


def test_the_job_has_the_fields_of_the_operator():
    job = documents("mpijob.yaml")["MPIJob"]
    assert job["apiVersion"] == "kubeflow.org/v2beta1"
    spec = job["spec"]
    assert set(spec) == {
        "slotsPerWorker",
        "mpiImplementation",
        "sshAuthMountPath",
        "runPolicy",
        "mpiReplicaSpecs",
    }
    assert spec["mpiImplementation"] == "MPICH"
    assert set(spec["runPolicy"]) <= {"cleanPodPolicy", "backoffLimit", "activeDeadlineSeconds", "suspend"}
    assert spec["runPolicy"]["cleanPodPolicy"] in ("None", "Running", "All")
    assert set(spec["mpiReplicaSpecs"]) == {"Launcher", "Worker"}
    for replica in spec["mpiReplicaSpecs"].values():
        assert set(replica) <= {"replicas", "restartPolicy", "template"}


def test_ranks_are_as_many_as_workers_and_divide_the_rows():
    spec = documents("mpijob.yaml")["MPIJob"]["spec"]
    script = launcher()["args"][0]
    ranks = {int(number) for number in re.findall(r"mpirun -n (\d+)", script)}
    assert ranks == {spec["mpiReplicaSpecs"]["Worker"]["replicas"] * spec["slotsPerWorker"]}
    passes = int(re.search(r"--gradient-accumulation-steps (\d+)", script)[1])
    rows = int(re.search(r"--batch-size (\d+)", script)[1])
    assert any(
        ranks == {a * b}
        for a in range(1, passes + 1)
        for b in range(1, rows + 1)
        if not (passes % a or rows % b)
    )


def launcher() -> dict:
    return documents("mpijob.yaml")["MPIJob"]["spec"]["mpiReplicaSpecs"]["Launcher"]["template"]["spec"][
        "containers"
    ][0]


def test_the_launcher_starts_a_run_and_later_goes_on_with_it(tmp_path):
    (tmp_path / "mpirun").write_text('#!/bin/sh\necho mpirun "$@"\n', encoding="utf-8")
    (tmp_path / "mpirun").chmod(0o755)
    run = tmp_path / "base"
    script = launcher()["args"][0].replace("/shared/runs/base", str(run))

    def started() -> list[str]:
        words = [*launcher()["command"], f"PATH={tmp_path}:$PATH; {script}"]
        return shlex.split(subprocess.run(words, capture_output=True, text=True, check=True).stdout)

    first = started()
    assert first[:5] == ["mpirun", "-n", "4", "subgpt", "pretrain"]
    assert first[-2:] == ["-o", str(run)]
    assert "--resume" not in first
    (run / "training").mkdir(parents=True)
    assert started() == [*first, "--resume"]


def test_the_shell_daemon_is_the_image_s():
    spec = documents("mpijob.yaml")["MPIJob"]["spec"]
    worker = spec["mpiReplicaSpecs"]["Worker"]["template"]["spec"]["containers"][0]
    port = worker["readinessProbe"]["tcpSocket"]["port"]
    assert worker["command"][-1] in DOCKERFILE
    assert DOCKERFILE.count(f"Port {port}") == 2
    assert f"HostKey {spec['sshAuthMountPath']}/id_rsa" in DOCKERFILE


@pytest.mark.parametrize(("name", "pod"), pods(), ids=[name for name, _ in pods()])
def test_pods_are_not_root_are_limited_and_mount_what_they_have(name, pod):
    assert pod["securityContext"]["runAsUser"] == 1000
    assert "USER 1000" in DOCKERFILE
    volumes = {volume["name"] for volume in pod["volumes"]}
    for container in pod["containers"]:
        assert {mount["name"] for mount in container["volumeMounts"]} <= volumes
        for kind in ("requests", "limits"):
            assert {"cpu", "memory"} <= set(container["resources"][kind])
    claims = [
        volume["persistentVolumeClaim"]["claimName"]
        for volume in pod["volumes"]
        if "persistentVolumeClaim" in volume
    ]
    assert claims == [documents("mpijob.yaml")["PersistentVolumeClaim"]["metadata"]["name"]]


def test_the_server_is_called_reached_and_probed_as_it_is():
    resources = documents("serve.yaml")
    template = resources["Deployment"]["spec"]["template"]
    server, service = template["spec"]["containers"][0], resources["Service"]
    assert service["spec"]["selector"].items() <= template["metadata"]["labels"].items()
    assert service["spec"]["ports"][0]["targetPort"] in [port["name"] for port in server["ports"]]
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert server[probe]["httpGet"]["path"] in OPEN
        assert server[probe]["httpGet"]["path"] == "/health"
    options = dict(zip(server["args"][2::2], server["args"][3::2], strict=True))
    assert options["--allow-host"] == service["metadata"]["name"]
    assert server["ports"][0]["containerPort"] == ServerSettings.model_fields["port"].default
    assert template["spec"]["terminationGracePeriodSeconds"] > float(options["--grace-seconds"])
    assert template["spec"]["enableServiceLinks"] is False  # its variables begin as the server's own
    settings = ServerSettings(
        host=options["--host"], allow_hosts=(options["--allow-host"],), grace_seconds=options["--grace-seconds"],
        api_key="k" * 16,
    )  # fmt: skip
    assert not settings.is_local
    assert [entry["name"] for entry in server["env"]] == ["SUBGPT_API_KEY"]
