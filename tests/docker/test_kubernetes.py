"""The Kubernetes manifests, held to the code: settings it knows, pages it serves, ports it listens on."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from service.app import create_app
from service.config import Settings
from service.kit.metrics import DatabaseCounts, Metrics
from tests.docker.files import COMPOSE, ROOT, SERVICES, arguments, environment, settings_names
from tests.docker.manifests import (
    CONTAINERS,
    DOCUMENTS,
    FOLDER,
    KUSTOMIZATIONS,
    SETTINGS_FILES,
    Container,
    kustomization,
    settings,
)

BASE = settings(FOLDER / "base" / "settings.env")
# Of libraries below the service: obstore's credentials, and torch's number of threads.
LIBRARIES = {"AWS_REGION", "OMP_NUM_THREADS"}
SECRETS = {"DATABASE_URL", "REDIS_URL", "ERASURE_KEY"}
LASTING = [container for container in CONTAINERS if container.lasting]


def of_kind(kind: str) -> dict[str, dict[str, Any]]:
    return {document["metadata"]["name"]: document["spec"] for document in DOCUMENTS if document["kind"] == kind}


def component(labels: dict[str, Any]) -> str:
    return str(labels["app.kubernetes.io/component"])


def gauge(name: str) -> list[dict[str, str]]:
    """The labels of each of its series."""
    metrics = Metrics(version="0")
    metrics.watch_database(lambda: DatabaseCounts({}))
    (family,) = (one for one in text_string_to_metric_families(metrics.render().decode()) if one.name == name)
    return [sample.labels for sample in family.samples]


@pytest.fixture(scope="module")
def routes(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """The paths that the api serves."""
    home = tmp_path_factory.mktemp("home")
    app = create_app(Settings(lookalike_home=home), f"unix://{home}/redis.sock")
    return set(app.openapi()["paths"])


def test_every_process_has_its_container() -> None:
    assert sorted(map(str, CONTAINERS)) == ["api", "migrate", "scheduler", "train", "trainer", "worker"]


@pytest.mark.parametrize("container", CONTAINERS, ids=str)
def test_a_container_may_do_nothing_but_its_work(container: Container) -> None:
    pod = container.pod["securityContext"]
    uid = re.search(r"useradd --uid (\d+)", " ".join(arguments(container.dockerfile, "RUN")))
    assert uid is not None
    assert (pod["runAsNonRoot"], pod["runAsUser"]) == (True, int(uid[1]))
    assert pod["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container.spec["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert container.pod["automountServiceAccountToken"] is False


@pytest.mark.parametrize("container", CONTAINERS, ids=str)
def test_a_container_writes_to_its_scratch_volume_only(container: Container) -> None:
    mounts = {mount["mountPath"]: mount for mount in container.spec["volumeMounts"]}
    volumes = {volume["name"]: volume for volume in container.pod["volumes"]}
    writable = [path for path, mount in mounts.items() if not mount.get("readOnly")]
    assert writable == ["/tmp"]
    assert volumes[mounts["/tmp"]["name"]]["emptyDir"]["sizeLimit"]
    assert Path(BASE["LOOKALIKE_HOME"]).is_relative_to("/tmp")
    assert environment(container.dockerfile).get("NUMBA_CACHE_DIR", "/tmp").startswith("/tmp")


@pytest.mark.parametrize("container", CONTAINERS, ids=str)
def test_a_container_asks_for_what_it_needs_and_has_a_limit_of_memory(container: Container) -> None:
    resources = container.spec["resources"]
    assert set(resources["requests"]) == {"cpu", "memory"}
    assert "memory" in resources["limits"]
    for variable in container.spec.get("env", []):
        assert variable["valueFrom"]["resourceFieldRef"]["resource"].removeprefix("limits.") in resources["limits"]


@pytest.mark.parametrize("container", CONTAINERS, ids=str)
def test_secrets_come_by_reference_and_settings_are_known(container: Container) -> None:
    assert container.spec["envFrom"] == [
        {"configMapRef": {"name": "lookalike-settings"}},
        {"secretRef": {"name": "lookalike-secrets"}},
    ]
    given = {variable["name"] for variable in container.spec.get("env", [])}
    assert given <= settings_names() | LIBRARIES
    # Else the cluster's own variables, such as API_PORT=tcp://10.0.0.1:80, would be read as settings.
    assert container.pod["enableServiceLinks"] is False


@pytest.mark.parametrize("path", SETTINGS_FILES, ids=lambda path: path.parent.name)
def test_settings_are_names_of_the_service_and_no_secrets(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert set(settings(path)) <= settings_names() | LIBRARIES
    assert not set(settings(path)) & SECRETS
    for name in SECRETS:
        monkeypatch.setenv(name, "redis://given")  # as REDIS_URL has to begin
    for name, value in (BASE | settings(path)).items():
        monkeypatch.setenv(name, value)
    assert Settings().env == "production"


def test_no_manifest_holds_a_secret() -> None:
    assert not of_kind("Secret")
    for path in KUSTOMIZATIONS:
        assert "secretGenerator" not in kustomization(path)


@pytest.mark.parametrize("container", LASTING, ids=str)
def test_probes_ask_for_pages_that_exist(container: Container, routes: set[str]) -> None:
    probes = [spec for name, spec in container.spec.items() if name.endswith("Probe")]
    assert probes
    for probe in probes:
        if "httpGet" in probe:
            # A worker's exporter answers on every path; /metrics is the one that Prometheus asks for.
            served = routes if probe["httpGet"]["port"] == "http" else {"/metrics"}
            assert probe["httpGet"]["path"] in served
            assert probe["httpGet"]["port"] in {port["name"] for port in container.spec["ports"]}
        else:
            program, option, script = probe["exec"]["command"]
            assert (program, option) == ("python", "-c")
            compile(script, "probe", "exec")


@pytest.mark.parametrize("container", LASTING, ids=str)
def test_a_container_listens_where_its_image_makes_it_listen(container: Container) -> None:
    _, process, *_ = container.spec["command"]
    settings_of = {
        "api": ("API", "http"),
        "worker": ("WORKER_METRICS", "metrics"),
        "scheduler": ("SCHEDULER_METRICS", "metrics"),
    }
    prefix, name = settings_of[process]
    given = environment(container.dockerfile)
    assert container.spec["ports"] == [{"name": name, "containerPort": int(given[f"{prefix}_PORT"])}]
    assert given[f"{prefix}_HOST"] == "0.0.0.0"


def test_the_api_is_alive_without_its_stores_and_ready_with_them() -> None:
    (api,) = (one.spec for one in CONTAINERS if str(one) == "api")
    assert api["livenessProbe"]["httpGet"]["path"] == api["startupProbe"]["httpGet"]["path"] == "/healthz"
    assert api["readinessProbe"]["httpGet"]["path"] == "/readyz"


@pytest.mark.parametrize("container", LASTING, ids=str)
def test_a_pod_is_given_the_time_to_stop(container: Container) -> None:
    hook = container.spec.get("lifecycle", {}).get("preStop", {}).get("exec", {}).get("command", ["sleep", "0"])
    grace = float(BASE["SHUTDOWN_GRACE_SECONDS"])
    assert container.pod["terminationGracePeriodSeconds"] >= float(hook[1]) + grace + 5


def test_images_are_those_that_compose_builds() -> None:
    built = {service["image"]: service["build"]["dockerfile"] for service in SERVICES.values() if "build" in service}
    for container in CONTAINERS:
        assert ROOT / built[container.spec["image"]] == container.dockerfile
    renamed = kustomization(FOLDER / "overlays" / "example" / "kustomization.yaml")["images"]
    assert {f"{image['name']}:{image['newTag']}" for image in renamed} == set(built)
    assert COMPOSE["x-worker"]["build"]["args"].keys() <= {
        line.partition("=")[0] for line in arguments(ROOT / "docker" / "Dockerfile.worker", "ARG")
    }


def test_workers_are_scaled_by_a_gauge_that_the_api_serves() -> None:
    autoscaler = of_kind("HorizontalPodAutoscaler")["lookalike-worker"]
    (metric,) = (metric["external"]["metric"] for metric in autoscaler["metrics"])
    (rule,) = yaml.safe_load((FOLDER / "prometheus-adapter.yaml").read_text())["rules"]["external"]
    assert metric["name"] == rule["seriesQuery"]
    assert "<<.LabelMatchers>>" in rule["metricsQuery"]  # where the autoscaler's selector goes
    assert metric["selector"]["matchLabels"] in gauge(metric["name"])
    target = of_kind("Deployment")[autoscaler["scaleTargetRef"]["name"]]
    (container,) = target["template"]["spec"]["containers"]
    assert container["command"][-2:] == ["--queue", metric["selector"]["matchLabels"]["queue"]]
    assert "replicas" not in target  # or each release would undo what the autoscaler did
    assert autoscaler["minReplicas"] >= 2


def test_what_is_scaled_or_served_outlives_the_drain_of_a_node() -> None:
    budgets = of_kind("PodDisruptionBudget")
    deployments = of_kind("Deployment")
    assert set(budgets) == {"lookalike-api", "lookalike-worker"}
    for name, budget in budgets.items():
        assert budget["selector"] == deployments[name]["selector"]
    assert deployments["lookalike-api"]["replicas"] > budgets["lookalike-api"]["minAvailable"]


def test_selectors_find_the_pods_and_ports_they_mean() -> None:
    pods = {component(one["template"]["metadata"]["labels"]): one["template"] for one in of_kind("Deployment").values()}
    for deployment in of_kind("Deployment").values():
        assert deployment["selector"]["matchLabels"] == deployment["template"]["metadata"]["labels"]
    (service,) = of_kind("Service").values()
    names = {
        name: {port["name"] for port in pod["spec"]["containers"][0].get("ports", [])} for name, pod in pods.items()
    }
    assert {port["targetPort"] for port in service["ports"]} <= names[component(service["selector"])]
    opened = of_kind("NetworkPolicy")
    assert component(opened["lookalike-api"]["podSelector"]["matchLabels"]) == "api"
    (metrics,) = opened["lookalike-metrics"]["podSelector"]["matchExpressions"]
    assert set(metrics["values"]) == {name for name, ports in names.items() if "metrics" in ports}


def test_nothing_is_reached_but_through_a_policy_that_says_so() -> None:
    everything = of_kind("NetworkPolicy")["lookalike"]
    assert set(everything["policyTypes"]) == {"Ingress", "Egress"}
    assert "ingress" not in everything
    assert {port["port"] for rule in everything["egress"] for port in rule["ports"]} == {53, 443, 5432, 6379}


def test_the_schema_is_migrated_before_the_scheduler_starts() -> None:
    (scheduler,) = (one.pod for one in CONTAINERS if str(one) == "scheduler")
    assert [one["command"] for one in scheduler["initContainers"]] == [["lookalike", "migrate"]]


def test_training_by_the_cluster_never_overlaps_and_ends_within_its_time() -> None:
    cron = of_kind("CronJob")["lookalike-train"]
    command = cron["jobTemplate"]["spec"]["template"]["spec"]["containers"][0]["command"]
    minutes = float(command[command.index("--max-minutes") + 1])
    assert cron["concurrencyPolicy"] == "Forbid"
    assert cron["jobTemplate"]["spec"]["activeDeadlineSeconds"] > 2 * 60 * minutes
    trainer = settings(FOLDER / "components" / "trainer" / "settings.env")
    assert cron["schedule"] == trainer["TRAIN_CRON"]


@pytest.mark.parametrize("path", KUSTOMIZATIONS, ids=lambda path: path.parent.name)
def test_a_kustomization_names_what_exists(path: Path) -> None:
    here = kustomization(path)
    generated = [name for generator in here.get("configMapGenerator", []) for name in generator["envs"]]
    named = [
        *here["resources"],
        *here.get("components", []),
        *generated,
        *(one["path"] for one in here.get("patches", [])),
    ]
    assert named
    for name in named:
        assert (path.parent / name).exists(), name
