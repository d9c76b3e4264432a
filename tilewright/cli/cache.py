"""`tilewright cache`: look at, check and clean the folder of compiled kernels (floor 9)."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence

import click
from rich.console import Console
from rich.table import Table

from tilewright.disk_cache import CollectReport, DiskCache, open_cache

_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([KMGT]?)(?:I?B)?", re.IGNORECASE)
_SIZE_UNIT_BYTES = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}


class SizeType(click.ParamType[int]):
    """A number of bytes such as `4096`, `512M` or `1.5 GiB`; the units are powers of 1024."""

    name = "size"

    def convert(self, value: str | int, param: click.Parameter | None, context: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        match = _SIZE.fullmatch(value.strip())
        if match is None:
            self.fail(f"{value!r} is not a size; write bytes, or a number with K, M, G or T, such as 512M", param, context)
        return int(float(match[1]) * _SIZE_UNIT_BYTES[match[2].upper()])


def format_size(size_bytes: int) -> str:
    """`size_bytes` for people: three digits or so, and a binary unit."""
    if size_bytes < 1024:
        return f"{size_bytes} B"
    size = float(size_bytes)
    for unit in ("KiB", "MiB", "GiB"):
        size /= 1024
        if size < 1023.95:  # what would be printed as 1024.0 goes to the next unit
            return f"{size:.1f} {unit}"
    return f"{size / 1024:.1f} TiB"


def format_age(age_seconds: float) -> str:
    """How long ago, in the largest unit that fits; a time in the future counts as now."""
    for unit_seconds, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if age_seconds >= unit_seconds:
            return f"{int(age_seconds // unit_seconds)} {unit} ago"
    return f"{max(0, int(age_seconds))} s ago"


def print_table(console: Console, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A ruled table on a terminal; elsewhere plain columns, whole and without a line break, that `cut` and `awk` can read."""
    if console.is_terminal:
        table = Table(*header)
        for row in rows:
            table.add_row(*row)
        console.print(table)
        return
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    for row in (header, *rows):
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip(), file=console.file)


def _cache_with_directory() -> DiskCache:
    cache = open_cache()
    if cache.directory is None:
        raise click.ClickException("no folder for caches is known; set TILEWRIGHT_CACHE_DIR, or HOME")
    return cache


def _count(number: int, noun: str) -> str:
    plural = f"{noun[:-1]}ies" if noun.endswith("y") else f"{noun}s"
    return f"{number} {noun if number == 1 else plural}"


def _removal_summary(report: CollectReport) -> str:
    temporaries = f" and {_count(report.temporary_count, 'unfinished file')}" if report.temporary_count else ""
    return (
        f"removed {_count(report.removed_count, 'entry')} ({format_size(report.removed_size_bytes)}){temporaries}; "
        f"kept {_count(report.kept_count, 'entry')} ({format_size(report.kept_size_bytes)})"
    )


@click.group("cache")
def cache() -> None:
    """Look at, check and clean the folder of compiled kernels."""


@cache.command("ls")
def list_entries() -> None:
    """List the entries, most recently used first."""
    disk_cache = _cache_with_directory()
    entries = disk_cache.entries()
    if entries:
        now_seconds = time.time()
        rows = [(entry.key, format_size(entry.size_bytes), format_age(now_seconds - entry.last_used_ns / 1e9)) for entry in reversed(entries)]
        print_table(Console(), ("key", "size", "last used"), rows)
    total = format_size(sum(entry.size_bytes for entry in entries))
    state = "" if disk_cache.is_enabled else " (switched off)"
    click.echo(f"{_count(len(entries), 'entry')}, {total} in {disk_cache.directory}{state}")


@cache.command("gc")
@click.option("--max-size", type=SizeType(), help="Largest size to keep, such as 512M. Default: the cache's own limit.")
def collect(max_size: int | None) -> None:
    """Remove the least recently used entries and what killed processes left."""
    click.echo(_removal_summary(_cache_with_directory().collect(max_size)))


@cache.command("verify")
@click.option("--remove", is_flag=True, help="Remove the damaged entries.")
def verify(remove: bool) -> None:
    """Check every byte of every entry; exit code 1 if one is damaged."""
    disk_cache = _cache_with_directory()
    entry_count = len(disk_cache.entries())
    damaged = disk_cache.verify(remove=remove)
    if not damaged:
        click.echo(f"{_count(entry_count, 'entry')}, none damaged")
        return
    rows = [(item.entry.key, format_size(item.entry.size_bytes), item.reason) for item in damaged]
    print_table(Console(), ("key", "size", "damage"), rows)
    advice = "removed" if remove else "a damaged entry is never loaded; --remove removes it"
    click.echo(f"{_count(entry_count, 'entry')}, {len(damaged)} damaged ({advice})")
    raise click.exceptions.Exit(1)


@cache.command("clear")
@click.option("--yes", is_flag=True, help="Do not ask.")
def clear(yes: bool) -> None:
    """Remove every entry; kernels are compiled again when they are next needed."""
    disk_cache = _cache_with_directory()
    if not yes:
        click.confirm(f"Remove {_count(len(disk_cache.entries()), 'entry')} from {disk_cache.directory}?", abort=True)
    click.echo(_removal_summary(disk_cache.clear()))
