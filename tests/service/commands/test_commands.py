"""The console script: help for everything, exit codes, and the reason in one line on standard error."""

import json
import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import typer
from sqlalchemy import insert, select, text

from model.checkpoint import save_checkpoint
from model.pool import encode_users
from service.__main__ import app, main
from service.config import Settings
from service.jobs.tables import Job
from service.keys.service import create_key, key_authenticator
from service.kit.artifacts import open_artifacts, version_prefix
from service.kit.database import Database
from service.models.repository import add_version
from service.models.tables import ModelVersion
from service.pool.importing import adopt_snapshot, store_snapshot
from service.schema import migrate
from service.webhooks.tables import WebhookEndpoint
from tests.fixtures.postgres import ROLE, SUPERUSER
from tests.model.worlds import ALL, make_dataset, make_untrained

Lines = list[str]


class Shell:
    """Runs `lookalike ...` in this process, on an embedded database under a home of its own."""

    def __init__(self, home: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
        self.home = home
        self._monkeypatch = monkeypatch
        self._capfd = capfd
        monkeypatch.setenv("LOOKALIKE_HOME", str(home))
        for name in ("DATABASE_URL", "REDIS_URL", "MODEL_STORE", "POOL_STORE", "AUDIENCE_STORE", "ENV"):
            monkeypatch.delenv(name, raising=False)
        self.database = Database(f"sqlite:///{home / 'lookalike.db'}")

    def __call__(self, *arguments: str) -> tuple[int, Lines, Lines]:
        """Exit code, standard output and standard error."""
        self._monkeypatch.setattr(sys, "argv", ["lookalike", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        out, err = self._capfd.readouterr()
        code = ended.value.code
        assert isinstance(code, int)
        return code, out.splitlines(), err.splitlines()

    def does(self, *arguments: str) -> Lines:
        code, out, err = self(*arguments)
        assert code == 0, err
        return out


@pytest.fixture
def shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Iterator[Shell]:
    shell = Shell(tmp_path, monkeypatch, capfd)
    yield shell
    shell.database.dispose()


def every_command(command: object, words: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    yield words
    for name, child in getattr(command, "commands", {}).items():
        yield from every_command(child, (*words, name))


COMMANDS = list(every_command(typer.main.get_command(app)))


def test_the_commands_of_the_contract_are_there() -> None:
    names = {" ".join(words) for words in COMMANDS}
    assert names >= {
        *(
            "demo",
            "api",
            "worker",
            "scheduler",
            "migrate",
            "doctor",
            "data import",
            "pool import",
            "train",
            "benchmark",
        ),
        *("models list", "models promote", "models rollback", "keys create", "keys list", "keys revoke", "keys rotate"),
        *("benchmark", "expand", "webhooks add", "webhooks list", "webhooks remove", "audit list"),
    }


def test_every_command_has_help(shell: Shell) -> None:
    for words in COMMANDS:
        assert any("--help" in line for line in shell.does(*words, "--help")), words


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["nonsense"], "No such command"),
        (["keys", "create"], "--tenant"),
        (["keys", "create", "--tenant", "acme", "--scopes", "all", "--days", "0"], "--days"),
        (["worker", "--queue", "delivery"], "--queue"),
        (["expand", "spring", "--seeds", "/nowhere"], "/nowhere"),
        (["audit", "list", "--since", "yesterday"], "--since"),
        (["keys"], "command is missing"),
        ([], "command is missing"),
    ],
)
def test_wrong_usage_is_2_with_one_line(shell: Shell, arguments: Lines, reason: str) -> None:
    code, _, err = shell(*arguments)
    assert (code, len(err)) == (2, 1)
    assert err[0].startswith("lookalike: ")
    assert reason in err[0]


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["keys", "create", "--tenant", "a b", "--scopes", "all"], "a tenant's name"),
        (["keys", "create", "--tenant", "acme", "--scopes", "pool:write"], "operators' keys only"),
        (["keys", "revoke", "aaaaaaaa"], "no valid key"),
        (["keys", "rotate", "aaaaaaaa"], "no valid key"),
        (["models", "promote", "v1"], "no model version v1"),
        (["models", "rollback"], "no earlier model"),
        (["webhooks", "add", "--tenant", "nobody", "--url", "https://example.com"], "no tenant nobody"),
        (["webhooks", "remove", "whe_0"], "no webhook endpoint whe_0"),
    ],
)
def test_failure_is_1_with_one_line(shell: Shell, arguments: Lines, reason: str) -> None:
    code, out, err = shell(*arguments)
    assert (code, out, len(err)) == (1, [], 1)
    assert reason in err[0]


def test_a_wrong_setting_is_named_without_its_value(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAX_BODY_BYTES", "secret")
    code, _, err = shell("keys", "list")
    assert (code, len(err)) == (1, 1)
    assert "MAX_BODY_BYTES" in err[0]
    assert "secret" not in err[0]


def test_keys_are_made_listed_rotated_and_revoked_and_that_is_told(shell: Shell) -> None:
    (first,) = shell.does("keys", "create", "--tenant", "acme", "--scopes", "all")
    (second,) = shell.does("keys", "rotate", first.split("_")[1])
    whose = key_authenticator(shell.database)
    assert [principal and principal.tenant for principal in map(whose, (first, second))] == ["acme", "acme"]
    shell.does("keys", "revoke", second.split("_")[1])
    assert whose(second) is None
    listed = "\n".join(shell.does("keys", "list"))
    for text_ in (first, second):
        assert text_.split("_")[1] in listed
        assert text_.split("_", 2)[2] not in listed
    log = [json.loads(line) for line in shell.does("audit", "list", "--tenant", "acme")]
    assert [(entry["action"], entry["actor"]) for entry in log] == [
        ("key.create", "command line"),
        ("key.rotate", "command line"),
        ("key.revoke", "command line"),
    ]
    assert shell.does("audit", "list", "--tenant", "globex") == []
    assert shell.does("audit", "list", "--since", "2999-01-01") == []
    assert len(shell.does("audit", "list", "--since", "2001-01-01T00:00:00")) == 3


def test_webhooks_are_registered_listed_and_removed_and_that_is_told(shell: Shell) -> None:
    shell.does("keys", "create", "--tenant", "acme", "--scopes", "all")
    url = "https://hooks.example.com/" + "x" * 150
    code, out, err = shell("webhooks", "add", "--tenant", "acme", "--url", url)
    assert code == 0
    with shell.database.read() as session:
        row = session.scalars(select(WebhookEndpoint)).one()
    assert out == [row.secret]
    assert row.id in err[0]
    (line,) = (line for line in shell.does("webhooks", "list") if row.id in line)
    assert url in line
    assert row.secret not in line
    assert not any(row.id in line for line in shell.does("webhooks", "list", "--tenant", "globex"))
    shell.does("webhooks", "remove", row.id)
    assert not any(row.id in line for line in shell.does("webhooks", "list"))
    log = [json.loads(line) for line in shell.does("audit", "list", "--tenant", "acme")]
    assert [(entry["action"], entry["subject"]) for entry in log[1:]] == [
        ("webhook.add", row.id),
        ("webhook.remove", row.id),
    ]
    assert not any(row.secret in line for line in map(json.dumps, log))


def test_in_production_a_webhook_goes_to_public_https_only(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    migrate(shell.database)
    with shell.database.write() as session:
        create_key(session, "acme", ["all"])
    monkeypatch.setenv("ENV", "production")
    monkeypatch.setenv("DATABASE_URL", f"sqlite:///{shell.home / 'lookalike.db'}")
    monkeypatch.setenv("REDIS_URL", "redis://127.0.0.1:1")
    for url in ("http://example.com/", "https://169.254.169.254/latest", "https://127.0.0.1/"):
        code, _, err = shell("webhooks", "add", "--tenant", "acme", "--url", url)
        assert (code, len(err)) == (1, 1), url


def test_an_expansion_from_a_file_is_a_job_and_told(shell: Shell, tmp_path: Path) -> None:
    seeds = tmp_path / "seeds.txt"
    seeds.write_text("user-1\nuser-2\nuser-1\n")
    (job_id,) = shell.does("expand", "spring", "--seeds", str(seeds), "--size", "10", "--tenant", "acme")
    with shell.database.read() as session:
        assert session.get_one(Job, job_id).request["audience_size"] == 10
    (entry,) = (json.loads(line) for line in shell.does("audit", "list"))
    assert (entry["action"], entry["subject"], entry["seeds"]) == ("campaign.expand", job_id, 2)


def found(lines: Lines) -> dict[str, str]:
    """What the doctor says of each thing: `ok` or `FAIL`."""
    return {line[6:].partition(":")[0]: line[:6].strip() for line in lines}


def test_the_doctor_finds_a_sound_installation_sound_and_leaves_nothing_behind(shell: Shell) -> None:
    shell.does("migrate")
    serve_something(shell)
    lines = shell.does("doctor")
    assert set(found(lines).values()) == {"ok"}
    assert list(found(lines)) == [
        *("database", "clock", "redis", "model store", "pool store", "audience store", "model", "pool", "disk")
    ]
    assert not list(shell.home.rglob("doctor*"))


def test_the_doctor_names_what_is_not_well(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    (shell.home / "file").write_text("no folder")
    monkeypatch.setenv("AUDIENCE_STORE", str(shell.home / "file" / "audiences"))
    monkeypatch.setenv("REDIS_URL", "redis://127.0.0.1:1")
    code, out, err = shell("doctor")
    assert code == 1
    assert err == ["lookalike: not well: database, redis, audience store, model, pool"]
    assert {name for name, state in found(out).items() if state == "FAIL"} == {
        *("database", "redis", "audience store", "model", "pool")
    }
    assert any("lookalike migrate" in line for line in out)


def test_the_doctor_says_what_a_new_installation_lacks(shell: Shell) -> None:
    shell.does("migrate")
    code, out, err = shell("doctor")
    assert (code, err) == (1, ["lookalike: not well: model, pool"])
    for command in ("lookalike train", "lookalike pool import"):
        assert any(command in line for line in out)


def test_the_doctor_says_why_a_database_lets_nobody_in(
    empty_postgres_url: str, shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", empty_postgres_url.replace(f"{ROLE}@", "stranger:secret@"))
    code, out, _ = shell("doctor")
    assert code == 1
    assert any('role "stranger" does not exist' in line for line in out)
    assert not any("secret" in line for line in out)


def test_the_doctor_sees_a_role_that_no_wall_holds_back(
    empty_postgres_url: str, shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", empty_postgres_url.replace(f"{ROLE}@", f"{SUPERUSER}@"))
    shell.does("migrate")
    _, out, err = shell("doctor")
    assert err == ["lookalike: not well: database, model, pool"]
    assert any("row-level security" in line for line in out)


def test_the_doctor_sees_a_home_that_cannot_be_written(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    shell.does("migrate")
    serve_something(shell)
    for name, place in (("MODEL_STORE", "models"), ("POOL_STORE", "pool"), ("AUDIENCE_STORE", "audiences")):
        monkeypatch.setenv(name, str(shell.home / place))
    monkeypatch.setenv("DATABASE_URL", f"sqlite:///{shell.home / 'lookalike.db'}")
    (shell.home / "file").write_text("no folder")
    monkeypatch.setenv("LOOKALIKE_HOME", str(shell.home / "file" / "home"))
    monkeypatch.setenv("REDIS_URL", "redis://127.0.0.1:1")
    _, out, err = shell("doctor")
    assert err == ["lookalike: not well: redis, disk"]
    assert any("LOOKALIKE_HOME" in line for line in out)


def test_the_doctor_sees_that_what_is_served_is_missing(shell: Shell) -> None:
    shell.does("migrate")
    with shell.database.write() as session:
        session.execute(text("UPDATE serving SET model_version = 'v1', snapshot_id = 'pool_1'"))
    code, _, err = shell("doctor")
    assert (code, err) == (1, ["lookalike: not well: model, pool"])


def serve_something(shell: Shell) -> None:
    """A model that was never trained, and a pool, in the stores and served."""
    dataset = make_dataset()
    artifacts = open_artifacts(Settings(lookalike_home=shell.home))
    pq.write_table(dataset.users, shell.home / "users.parquet")
    imported = store_snapshot(
        artifacts.pools, shell.home / "users.parquet", dataset.schema.user_features, progress=lambda _: None
    )
    model = make_untrained(encode_users(dataset.users, ALL))
    with artifacts.models.staging() as scratch:
        manifest = save_checkpoint(model, scratch / "v", version="v1", trained_at=datetime.now(UTC), metrics={})
        artifacts.models.put_directory(scratch / "v", version_prefix("v1"))
    with shell.database.write() as session:
        add_version(session, manifest, {})
        adopt_snapshot(session, imported, max_attempts=1)
        session.execute(text("UPDATE serving SET model_version = 'v1', snapshot_id = desired_snapshot_id"))


def test_models_are_listed_side_by_side_with_what_the_gate_said(shell: Shell) -> None:
    shell.does("migrate")
    figures = {"auc": 0.8, "cold_auc": 0.75, "p_at_5": 0.5, "r_at_5": 0.25, "random_p_at_5": 0.1}
    with shell.database.write() as session:
        for version, gain, gate in (
            ("v1", 0.0, {"accepted": True, "reason": "better than random"}),
            ("v2", -0.2, {"accepted": False, "reason": "cold AUC 0.5500 is worse"}),
        ):
            metrics = {name: value + gain for name, value in figures.items()}
            session.execute(
                insert(ModelVersion).values(
                    version=version,
                    name="default",
                    sha256="m" * 64,
                    campaign_features=[],
                    metrics=metrics,
                    gate=gate,
                    trained_at=datetime(2026, 1, 2, 3, 4, tzinfo=UTC),
                )
            )
        session.execute(text("UPDATE serving SET model_version = 'v1', desired_model_version = 'v1'"))
    table = [[cell.strip() for cell in re.split("[│┃]", line)[1:-1]] for line in shell.does("models", "list")]
    head, *rows = [row for row in table if row]
    assert head == ["version", "trained", "AUC", "cold AUC", "P@5%", "R@5%", "random P@5%", "gate", ""]
    found = {row[0]: row[1:] for row in rows}
    assert found["v1"][1:4] == ["0.8000", "0.7500", "0.5000"]
    assert found["v1"][-2:] == ["accepted", "served"]
    assert found["v2"][-2:] == ["cold AUC 0.5500 is worse", ""]


def test_a_version_is_signed_by_hand_once_there_is_a_key(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    shell.does("migrate")
    serve_something(shell)
    assert shell("models", "sign", "v1")[2] == ["lookalike: MODEL_SIGNING_KEYS is not set"]
    monkeypatch.setenv("MODEL_SIGNING_KEYS", "key-of-the-operator-" * 2)
    assert shell("doctor")[2] == ["lookalike: not well: model"]
    shell.does("models", "sign", "v1")
    assert "ok    model: v1 loads" in shell.does("doctor")
    assert shell("models", "sign", "v1")[2] == ["lookalike: this key has signed v1 already"]
    assert shell("models", "sign", "v2")[2] == ["lookalike: there is no model version v2"]
    assert any("model.sign" in line for line in shell.does("audit", "list"))


def test_the_doctor_loads_the_served_model_and_reads_every_array_of_the_pool(shell: Shell) -> None:
    shell.does("migrate")
    serve_something(shell)
    lines = shell.does("doctor")
    assert "ok    model: v1 loads" in lines
    assert any("is as it was imported" in line for line in lines)
    array = next(shell.home.rglob("shards/*/f0.*.npy"))
    data = bytearray(array.read_bytes())
    data[-1] ^= 1
    array.write_bytes(data)
    code, _, err = shell("doctor")
    assert (code, err) == (1, ["lookalike: not well: pool"])


def test_a_database_that_is_away_or_not_migrated_ends_a_command(
    shell: Shell, monkeypatch: pytest.MonkeyPatch, empty_postgres_url: str
) -> None:
    monkeypatch.setattr("service.commands.kit.PATIENCE_SECONDS", 0.0)
    for url, reason in (
        (empty_postgres_url, "run `lookalike migrate`"),
        (empty_postgres_url.replace("host=", "host=/nowhere"), "the database cannot be used"),
    ):
        monkeypatch.setenv("DATABASE_URL", url)
        code, out, err = shell("keys", "list")
        assert (code, out, len(err)) == (1, [], 1), err
        assert reason in err[0]


def test_where_nobody_watches_the_reason_to_fail_is_all_there_is_on_standard_error(shell: Shell) -> None:
    broken = shell.home / "broken.parquet"
    broken.write_bytes(b"PAR1")
    (shell.home / "schema.json").write_text('{"user_features": [{"name": "age", "kind": "numeric"}]}')
    for arguments in (
        ("pool", "import", str(broken), "--schema", str(shell.home / "schema.json")),
        ("train", "--data", str(shell.home)),
    ):
        code, out, err = shell(*arguments)
        assert (code, out, len(err)) == (1, [], 1), err


def test_an_api_whose_port_is_taken_ends_with_1_and_says_so(shell: Shell) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        environment = {**os.environ, "REDIS_URL": f"unix://{shell.home}/none", "API_PORT": str(port)}
        command = [sys.executable, "-m", "service", "api"]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == f"lookalike: the api cannot listen on 127.0.0.1, port {port}"


def test_the_script_itself_ends_with_the_code() -> None:
    done = subprocess.run([sys.executable, "-m", "service", "nonsense"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "lookalike: No such command 'nonsense'.\n"
