"""`tilewright check script.py`: runs a program with all its kernels in the simulator, and prints what is wrong with them (floor 9)."""

from __future__ import annotations

from pathlib import Path

import click

from tilewright.backends.simulated import reports_go_to
from tilewright.backends.targets import instead_of_all_targets, resolve_target
from tilewright.cli.run import describe_failure, execute
from tilewright.sim import FindingKind, SimulationOptions, SimulationReport


@click.command("check", context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@click.option("--arch", default=None, metavar="NAME", help="The GPU to compile for, as in sm_80.")
@click.option("--seed", default=0, show_default=True, help="Of the choices that a GPU makes as it likes.")
@click.option("--max-blocks", default=None, type=click.IntRange(1), help="Run at most so many blocks of each grid, spread over it.")
@click.option("--accesses", is_flag=True, help="Show how each line uses shared and global memory.")
@click.argument("script", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def check(script: Path, arguments: tuple[str, ...], arch: str | None, seed: int, max_blocks: int | None, accesses: bool) -> None:
    """Run a program's kernels in the simulator of a GPU, and say what is wrong with them.

    Every kernel is compiled for a GPU, whatever target the program asks for, and its threads are executed here: no GPU is needed. Races, missing barriers,
    reads of what nobody wrote and accesses outside of buffers are printed with their source lines. Exit code 1 if there are any.
    """
    target = resolve_target({"kind": "simulate", "arch": arch} if arch else "simulate")
    reports: list[tuple[str, SimulationReport]] = []
    failure: Exception | None = None
    with instead_of_all_targets(target), reports_go_to(lambda name, report: reports.append((name, report)), SimulationOptions(seed, max_blocks=max_blocks)):
        try:
            execute(script, arguments)
        except Exception as error:
            failure = error
    seen: set[tuple[FindingKind, str]] = set()
    for name, report in reports:
        for finding in report.findings:
            text = finding.diagnostic.render()
            if (finding.kind, text) not in seen:  # a kernel that is called again shows the same again
                seen.add((finding.kind, text))
                click.echo(f"{name}: {finding.render()}\n")
        if accesses:
            click.echo(f"{name}:\n{report.render_accesses()}\n")
    if failure is not None:
        click.echo(describe_failure(failure, script), err=True)
    names = {name for name, _ in reports}
    click.echo(f"{len(names)} kernel{'s' * (len(names) != 1)}, {len(reports)} call{'s' * (len(reports) != 1)}: {len(seen)} finding{'s' * (len(seen) != 1)}")
    if seen or failure is not None:
        raise SystemExit(1)
