"""The console script `lookalike`: exit 0 when done, 2 on wrong usage, 1 with one line on standard error."""

import typer
from sqlalchemy.exc import SQLAlchemyError

from model.errors import ModelError
from service.commands import (
    audit,
    benchmark,
    data,
    demo,
    doctor,
    erasures,
    expand,
    keys,
    models,
    pool,
    processes,
    speed,
    tenants,
    train,
    verify,
    webhooks,
)
from service.commands.kit import CommandError, fail
from service.kit.database import reason_of
from service.kit.errors import Problem
from service.kit.processes import ChildError

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Audience expansion: from a small seed set to the most similar people of a pool of millions.",
)
app.command()(demo.demo)
app.command()(processes.api)
app.command()(processes.worker)
app.command()(processes.scheduler)
app.command()(processes.migrate)
app.add_typer(data.app, name="data")
app.add_typer(pool.app, name="pool")
app.command()(train.train)
app.add_typer(models.app, name="models")
app.add_typer(keys.app, name="keys")
app.add_typer(tenants.app, name="tenants")
app.add_typer(webhooks.app, name="webhooks")
app.add_typer(audit.app, name="audit")
app.add_typer(erasures.app, name="erasures")
app.command()(expand.expand)
app.command()(verify.verify)
app.command()(benchmark.benchmark)
app.command()(speed.speed)
app.command()(doctor.doctor)


def main() -> None:
    """Run a command; what goes wrong on purpose ends in one line."""
    try:
        code = app(standalone_mode=False)
    except typer.TyperException as error:  # a wrong command line; without any, the help was shown already
        fail(error.format_message() or "a command is missing", error.exit_code)
    except typer.Abort:
        fail("interrupted")
    except (CommandError, ModelError, Problem, ChildError, ValueError) as error:
        fail(str(error))
    except SQLAlchemyError as error:
        fail(f"the database cannot be used: {reason_of(error)}")
    except OSError as error:
        fail(str(error))
    else:
        raise SystemExit(code or 0)


if __name__ == "__main__":
    main()
