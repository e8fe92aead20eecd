"""The images and the compose file, read with a parser: no Docker engine is needed to see most mistakes."""

import os
import re
import shlex
import subprocess
import sys
import threading
import tomllib
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from subprocess import PIPE

import pytest
import yaml

from service.config import Settings
from tests.docker.files import (
    COMPOSE,
    DOCKERFILES,
    OWN,
    ROOT,
    SERVICES,
    arguments,
    environment,
    instructions,
    locked,
    settings_names,
)


class Page(BaseHTTPRequestHandler):
    """Answers 200 to `GET /healthz` and `GET /metrics`."""

    def do_GET(self) -> None:
        self.send_response(200 if self.path in {"/healthz", "/metrics"} else 404)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Nothing."""


def health_check(dockerfile: Path) -> list[str]:
    (check,) = arguments(dockerfile, "HEALTHCHECK")
    words: list[str] = yaml.safe_load(check[check.index("[") :])
    return words


# Of the images of others: what their pages name.
FOREIGN_ENVIRONMENT = {"POSTGRES_PASSWORD", "REDISCLI_AUTH"}


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=lambda path: path.name)
def test_every_copied_path_exists(dockerfile: Path) -> None:
    for line in arguments(dockerfile, "COPY"):
        if line.startswith("--from="):  # another stage's
            continue
        *sources, _ = shlex.split(line)
        for source in sources:
            assert (ROOT / source).exists(), source


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=lambda path: path.name)
def test_an_image_runs_as_an_ordinary_user(dockerfile: Path) -> None:
    words = [word for word, _ in instructions(dockerfile)]
    assert arguments(dockerfile, "USER") == ["lookalike"]
    assert words.index("USER") > max(index for index, word in enumerate(words) if word in ("FROM", "RUN"))
    assert "useradd" in " ".join(arguments(dockerfile, "RUN"))


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=lambda path: path.name)
def test_an_image_starts_the_service_itself_and_says_how_it_feels(dockerfile: Path) -> None:
    (command,) = arguments(dockerfile, "CMD")
    assert command.startswith('["lookalike", ')
    assert health_check(dockerfile)[:2] == ["python", "-c"]


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=lambda path: path.name)
def test_an_image_asks_after_its_process_at_the_port_that_it_was_given(dockerfile: Path) -> None:
    (setting,) = {"API_PORT", "WORKER_METRICS_PORT"} & set(environment(dockerfile))
    _, option, script = health_check(dockerfile)
    with HTTPServer(("127.0.0.1", 0), Page) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        given = {**os.environ, setting: str(server.server_port)}
        assert subprocess.run([sys.executable, option, script], env=given, check=False).returncode == 0
        server.shutdown()
    assert subprocess.run([sys.executable, option, script], env=given, check=False, stderr=PIPE).returncode == 1


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=lambda path: path.name)
def test_dependencies_are_installed_before_the_code_is_copied_and_by_their_hashes(dockerfile: Path) -> None:
    steps = [rest for word, rest in instructions(dockerfile) if word in ("RUN", "COPY")]
    install = next(index for index, step in enumerate(steps) if "--require-hashes" in step)
    assert install < steps.index("service service")


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=lambda path: path.name)
def test_an_image_has_a_fixed_base(dockerfile: Path) -> None:
    stages = [line.partition(" AS ") for line in arguments(dockerfile, "FROM")]
    own = {name for _, _, name in stages}
    assert {base for base, _, _ in stages} - own - {"scratch"} == {"debian:bookworm-slim"}


def test_the_api_image_holds_no_torch() -> None:
    assert "torch" not in (ROOT / "docker" / "Dockerfile.api").read_text().replace("no torch", "")
    assert not {"torch", "safetensors", "numba"} & set(locked("api.txt"))


def test_each_lock_has_what_the_project_asks_for() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    asked = {
        "api.txt": project["dependencies"] + extras["otel"],
        "worker.txt": project["dependencies"] + extras["worker"] + extras["otel"],
        "dev.txt": project["dependencies"] + extras["worker"] + extras["otel"] + extras["embedded"] + extras["dev"],
    }
    for lock, requirements in asked.items():
        names = {re.split(r"[^\w.-]", requirement)[0].lower().replace("_", "-") for requirement in requirements}
        assert names - {"torch"} <= set(locked(lock)), lock


def test_the_images_have_the_versions_that_the_tests_ran_with() -> None:
    tested = locked("dev.txt")
    for name in ("api.txt", "worker.txt"):
        assert locked(name).items() <= tested.items(), name
    (torch,) = re.findall(r'"(torch==[^"]+)"', (ROOT / "pyproject.toml").read_text())
    assert any(line.endswith(torch) for line in arguments(ROOT / "docker" / "Dockerfile.worker", "RUN"))


def test_the_locks_name_no_package_index() -> None:
    for lock in (ROOT / "docker" / "requirements").glob("*.txt"):
        assert not re.search(r"^-|://|file:|WARNING", lock.read_text(), re.MULTILINE), lock.name


def test_the_compose_file_has_every_process() -> None:
    own = {"migrate", "api", "worker", "trainer", "scheduler"}
    assert set(SERVICES) == own | {"postgres", "redis", "prometheus", "grafana", "jaeger"}


def test_training_and_observability_are_profiles_and_the_rest_is_always_there() -> None:
    profiles = {name: service["profiles"] for name, service in SERVICES.items() if "profiles" in service}
    observing = {name: ["observability"] for name in ("prometheus", "grafana", "jaeger")}
    assert profiles == {"trainer": ["train"], **observing}
    for name in set(SERVICES) - set(profiles):
        assert not set(profiles) & set(SERVICES[name].get("depends_on", {})), name


def test_what_is_built_from_reaches_the_builder() -> None:
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    assert "*" in ignored
    kept = {line.removeprefix("!") for line in ignored if line.startswith("!")}
    for dockerfile in DOCKERFILES:
        for line in arguments(dockerfile, "COPY"):
            *sources, _ = shlex.split(line)
            for source in sources:
                assert line.startswith("--from=") or {source, str(Path(source).parent)} & kept, source


def test_no_image_floats() -> None:
    for name, service in SERVICES.items():
        _, _, tag = service["image"].partition(":")
        assert re.match(r"v?\d", tag), name


@pytest.mark.parametrize("name", OWN)
def test_a_service_gets_only_settings_that_the_service_knows(name: str) -> None:
    dockerfile = ROOT / SERVICES[name]["build"]["dockerfile"]
    given = set(SERVICES[name]["environment"]) | {
        variable
        for variable in environment(dockerfile)
        if not variable.startswith(("PATH", "PIP_", "PYTHON", "NUMBA_"))
    }
    assert given <= settings_names()


@pytest.mark.parametrize("name", OWN)
def test_a_service_is_a_production_service_that_may_write_to_its_stores_only(name: str) -> None:
    service = SERVICES[name]
    assert service["environment"]["ENV"] == "production"
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    mounted = {volume.rsplit(":ro", 1)[0].rpartition(":")[2] for volume in service["volumes"]}
    stores = {service["environment"][name] for name in ("MODEL_STORE", "POOL_STORE", "AUDIENCE_STORE", "IMPORT_ROOT")}
    assert stores <= mounted
    assert service["environment"]["LOOKALIKE_HOME"].startswith(f"{service['tmpfs'][0]}/")


@pytest.mark.parametrize("name", OWN)
def test_a_store_is_a_folder_that_the_image_gives_to_its_user(name: str) -> None:
    dockerfile = ROOT / SERVICES[name]["build"]["dockerfile"]
    owned = " ".join(arguments(dockerfile, "RUN")).partition("install -d -o lookalike -g lookalike")[2].split()
    for volume in SERVICES[name]["volumes"]:
        assert volume.removesuffix(":ro").rpartition(":")[2] in owned, volume


def test_an_operator_need_not_edit_the_compose_file_for_any_other_setting() -> None:
    assert [SERVICES[name]["env_file"] for name in OWN] == [[{"path": "lookalike.env", "required": False}]] * len(OWN)


def test_the_settings_of_the_compose_file_are_valid(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in OWN:
        for variable, value in SERVICES[name]["environment"].items():
            given = re.sub(r"\$\{\w+:\?[^}]*\}", "given", value or "")
            monkeypatch.setenv(variable, re.sub(r"\$\{\w+:-[^}]*\}", "", given))
        assert Settings().env == "production"


def test_the_worker_that_expands_cannot_write_models() -> None:
    assert "models:/data/models:ro" in SERVICES["worker"]["volumes"]
    assert "models:/data/models" in SERVICES["trainer"]["volumes"]


def test_the_stores_open_no_port_and_want_a_password() -> None:
    assert not {"ports", "network_mode"} & (SERVICES["postgres"].keys() | SERVICES["redis"].keys())
    command = SERVICES["redis"]["command"]
    assert command[command.index("--requirepass") + 1].startswith("${REDIS_PASSWORD:?")
    assert "trust" not in str(SERVICES["postgres"])
    open_to_others = {name for name, service in SERVICES.items() if "ports" in service}
    assert open_to_others == {"api", "prometheus", "grafana", "jaeger"}
    for name in open_to_others:
        assert all(re.match(r"\$\{API_PUBLISH:-127\.0\.0\.1|127\.0\.0\.1:", port) for port in SERVICES[name]["ports"])


def test_the_service_s_role_in_the_database_is_no_superuser() -> None:
    """Row-level security would not hold one back."""
    (script,) = [volume for volume in SERVICES["postgres"]["volumes"] if "docker-entrypoint-initdb.d" in volume]
    statements = (ROOT / script.partition(":")[0]).read_text()
    assert "CREATE ROLE lookalike LOGIN PASSWORD :'password';" in statements
    assert not re.search(r"SUPERUSER|BYPASSRLS", statements)
    assert "POSTGRES_USER" not in SERVICES["postgres"]["environment"]
    for name in OWN:
        assert SERVICES[name]["environment"]["DATABASE_URL"].startswith("postgresql://lookalike:")


def test_foreign_images_get_their_own_variables_only() -> None:
    for name in set(SERVICES) - set(OWN):
        assert set(SERVICES[name].get("environment", {})) <= FOREIGN_ENVIRONMENT


def test_no_secret_has_a_default() -> None:
    text = (ROOT / "docker-compose.yml").read_text()
    for variable in re.findall(r"\$\{(\w*(?:PASSWORD|KEY|SECRET|TOKEN)\w*)[^}]*\}", text):
        assert re.findall(rf"\$\{{{variable}(?!:\?)", text) == [], variable
    for service in SERVICES.values():
        for variable, value in service.get("environment", {}).items():
            if "PASSWORD" in variable or "AUTH" in variable:
                assert re.fullmatch(r"\$\{\w+:\?[^}]+\}", value), variable


def test_every_lasting_service_has_a_health_check() -> None:
    for name, service in SERVICES.items():
        if name == "migrate":
            continue
        image_has_one = name in OWN and arguments(ROOT / service["build"]["dockerfile"], "HEALTHCHECK")
        assert image_has_one or service["healthcheck"]["test"][0] == "CMD", name


def test_what_a_service_waits_for_can_come_true() -> None:
    for name, service in SERVICES.items():
        needed = service.get("depends_on", {})
        for other, condition in needed.items() if isinstance(needed, dict) else ((one, {}) for one in needed):
            assert other in SERVICES, name
            if condition.get("condition") == "service_completed_successfully":
                assert other == "migrate"


def test_every_volume_is_declared_and_every_mounted_file_exists() -> None:
    for service in SERVICES.values():
        for volume in service.get("volumes", []):
            source = re.sub(r"^\$\{\w+:-(\w+)\}", r"\1", volume).partition(":")[0]
            assert source in COMPOSE["volumes"] or (ROOT / source).is_file(), volume


def test_prometheus_scrapes_the_services_at_the_ports_they_listen_on() -> None:
    configuration = yaml.safe_load((ROOT / "docker" / "prometheus.yml").read_text())
    ports = {
        name: scraped["port"]
        for job in configuration["scrape_configs"]
        for scraped in job.get("dns_sd_configs", [])
        for name in scraped["names"]
    }
    assert set(ports) == {"api", "worker", "trainer", "scheduler"}
    for name, port in ports.items():
        _, process, *_ = SERVICES[name]["command"]
        setting = "API_PORT" if process == "api" else f"{process.upper()}_METRICS_PORT"
        assert environment(ROOT / SERVICES[name]["build"]["dockerfile"])[setting] == str(port)


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=lambda path: path.name)
def test_an_image_exposes_the_ports_that_its_processes_listen_on(dockerfile: Path) -> None:
    (exposed,) = arguments(dockerfile, "EXPOSE")
    given = [value for name, value in environment(dockerfile).items() if name.endswith("_PORT")]
    assert sorted(exposed.split()) == sorted(given)


def test_every_inline_check_is_python_that_compiles() -> None:
    for service in SERVICES.values():
        test = service.get("healthcheck", {}).get("test", [])
        if test[1:3] == ["python", "-c"]:
            compile(test[3], "healthcheck", "exec")


def test_the_page_on_deploying_names_settings_that_exist() -> None:
    page = (ROOT / "docs" / "deploy.md").read_text()
    table = re.findall(r"^\| (`[^|]+) \|", page, re.MULTILINE)
    named = {name for row in table for name in re.findall(r"`([A-Z_]+)`", row)}
    assert {"DATABASE_URL", "REDIS_URL", "ERASURE_KEY"} < named <= settings_names()
