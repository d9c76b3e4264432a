"""Programs as text (floor 2): what `tilewright inspect`, `PrimFunc.script()` and pass dumps show. Names are made unique by order of appearance."""

from __future__ import annotations

import dataclasses
from enum import Enum
from typing import Any

from tilewright.ir.buffer import Buffer, Region, format_shape
from tilewright.ir.expr import Expr
from tilewright.ir.expr_text import print_expr
from tilewright.ir.foreign import ForeignCall
from tilewright.ir.program import Launch, Program
from tilewright.ir.stmt import (
    Assert,
    Assume,
    AtomicUpdate,
    Barrier,
    BlockReduce,
    Break,
    Continue,
    For,
    If,
    Let,
    ParallelFor,
    Prefetch,
    Print,
    ReduceLoop,
    Seq,
    Stmt,
    Store,
    WarpExchange,
    While,
)
from tilewright.ir.thread import Address, AsyncRegion, InstructionCall, Registers, VectorCopy
from tilewright.ir.tileop import TileOp


class Printer:
    """Prints one program."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.depth = 0
        self.names: dict[Expr | Buffer, str] = {}
        self.taken: set[str] = set()

    def name(self, owner: Expr | Buffer) -> str:
        """The name of a variable or buffer, numbered where another one has it already."""
        if owner not in self.names:
            name, count = owner.name, 0
            while name in self.taken:
                count += 1
                name = f"{owner.name}_{count}"
            self.taken.add(name)
            self.names[owner] = name
        return self.names[owner]

    def expr(self, node: Expr) -> str:
        return print_expr(node, self.name)

    def line(self, text: str, stmt: Stmt | None = None) -> None:
        where = f"  # {stmt.span.line}" if stmt is not None else ""
        self.lines.append("    " * self.depth + text + where)

    def body(self, stmt: Stmt) -> None:
        self.depth += 1
        before = len(self.lines)
        self.stmt(stmt)
        if len(self.lines) == before:
            self.line("pass")
        self.depth -= 1

    def stmt(self, node: Stmt) -> None:
        match node:
            case Seq():
                for inner in node.body:
                    self.stmt(inner)
            case For():
                plan = f", num_stages={node.pipeline.num_stages}" if node.pipeline else ""
                self.line(f"for {self.name(node.variable)} in {node.kind.value}({self.expr(node.extent)}{plan}):", node)
                self.body(node.body)
            case ParallelFor():
                self.line(f"for {', '.join(map(self.name, node.variables))} in Parallel({', '.join(map(self.expr, node.extents))}):", node)
                self.body(node.body)
            case If():
                self.line(f"if {self.expr(node.condition)}:", node)
                self.body(node.then_body)
                if node.else_body is not None:
                    self.line("else:")
                    self.body(node.else_body)
            case While():
                self.line(f"while {self.expr(node.condition)}:", node)
                self.body(node.body)
            case Break() | Continue():
                self.line(type(node).__name__.lower(), node)
            case Let():
                self.line(f"{self.name(node.variable)} = {self.expr(node.value)}", node)
            case Store():
                self.line(f"{self.name(node.buffer)}[{', '.join(map(self.expr, node.indices))}] = {self.expr(node.value)}", node)
            case Prefetch():
                self.line(f"prefetch({self.name(node.buffer)}[{', '.join(map(self.expr, node.indices))}])", node)
            case ReduceLoop():
                self.line(
                    f"{self.name(node.result)} = {node.kind.value}({self.expr(node.initial)}, {self.expr(node.value)} for {self.name(node.axis)} in "
                    f"range({self.expr(node.extent)})){'' if node.body is None else ', each after:'}",
                    node,
                )
                if node.body is not None:
                    self.body(node.body)
            case AtomicUpdate():
                target = f"{self.name(node.buffer)}[{', '.join(map(self.expr, node.indices))}]"
                previous = f"{self.name(node.previous)} = " if node.previous is not None else ""
                self.line(f"{previous}atomic_{node.kind.value}({target}, {self.expr(node.value)}, {node.order.value})", node)
            case Barrier():
                named = "" if node.num_threads is None else f"{node.barrier_id}, {node.num_threads}"
                self.line(f"barrier_{node.scope.value}({named})", node)
            case WarpExchange():
                operand = () if node.operand is None else (self.expr(node.operand), str(node.width))
                arguments = ", ".join((self.expr(node.value), *operand, self.expr(node.mask)))
                self.line(f"{self.name(node.result)} = warp_{node.kind.value}({arguments})", node)
            case BlockReduce():
                self.line(
                    f"{self.name(node.result)} = block_reduce_{node.kind.value}({self.expr(node.value)}, over {''.join('xyz'[a] for a in node.axes)})", node
                )
            case ForeignCall():
                result = "" if node.result is None else f"{self.name(node.result)} = "
                parts = [
                    self.value(a) if r is None else f"&{self.value(a)} ({r.access.value}{', element' * r.is_element})"
                    for a, r in zip(node.arguments, node.reaches, strict=True)
                ]
                self.line(f"{result}{node.kind.value}({', '.join((repr(node.text), *parts))})", node)
            case Assert():
                self.line(f"device_assert({self.expr(node.condition)}, {node.message!r})", node)
            case Assume():
                self.line(f"assume({self.expr(node.condition)})", node)
            case Print():
                self.line(
                    f"print({', '.join([repr(node.message), *map(self.expr, node.values), *([self.name(node.buffer)] if node.buffer is not None else [])])})",
                    node,
                )
            case AsyncRegion():
                self.line("with async_copies:", node)
                self.body(node.body)
            case VectorCopy():
                self.line(f"{self.value(node.dst)} = vector<{node.elements}>({self.value(node.src)})", node)
            case InstructionCall():
                self.line(f"{node.instruction.name}({', '.join(map(self.value, node.operands))})", node)
            case TileOp():
                self.line(f"{type(node).__name__.lower()}({self.fields(node)})", node)
            case _:
                self.line(f"{type(node).__name__}({self.fields(node)})", node)

    def fields(self, node: Stmt) -> str:
        """What a statement says, fields that have their default aside."""
        values = ((f, getattr(node, f.name)) for f in dataclasses.fields(node) if f.name != "span")
        return ", ".join(f"{f.name}={self.value(value)}" for f, value in values if value is not f.default)

    def value(self, item: Any) -> str:
        match item:
            case Expr():
                return self.expr(item)
            case Buffer():
                return self.name(item)
            case Region():
                if item.is_whole:
                    return self.name(item.buffer)
                parts = [
                    f"{self.expr(s)}:+{self.value(n)}" if kept else self.expr(s) for s, n, kept in zip(item.starts, item.extents, item.is_slice, strict=True)
                ]
                return f"{self.name(item.buffer)}[{', '.join(parts)}]"
            case Address():
                return f"{self.name(item.buffer)}[{', '.join(map(self.expr, item.indices))}]"
            case Registers():
                return f"{self.name(item.buffer)}[{self.expr(item.offset)}:]"
            case Enum():
                return str(item.value)
            case tuple():
                return f"({', '.join(map(self.value, item))}{',' * (len(item) == 1)})"
            case _:
                return str(item)

    def launch(self, launch: Launch) -> None:
        blocks = ", ".join(map(self.name, launch.block_variables))
        self.line(f"with Kernel({', '.join(map(self.expr, launch.grid))}, threads={launch.threads}) as ({blocks}):  # {launch.span.line}")
        self.depth += 1
        for buffer in launch.buffers:
            source = f" view of {self.name(buffer.source)}" if buffer.source is not None else ""
            self.line(f"{self.name(buffer)}: {buffer.scope.value} {format_shape(buffer)}{source}")
        self.depth -= 1
        self.body(launch.body)


def print_program(program: Program) -> str:
    """The program as text, one statement a line, with the user's line numbers."""
    printer = Printer()
    parameters = []
    for p in program.parameters:
        kind = format_shape(p.buffer) if p.buffer is not None else str(p.variable.dtype) if p.variable is not None else ""
        owner = p.buffer if p.buffer is not None else p.variable
        parameters.append(f"{p.name if owner is None else printer.name(owner)}: {kind}{' (output)' if p.is_output else ''}")
    printer.line(f"def {program.name}({', '.join(parameters)}):")
    printer.depth += 1
    for workspace in program.workspaces:
        printer.line(f"{printer.name(workspace)}: workspace {format_shape(workspace)}")
    for launch in program.launches:
        printer.launch(launch)
    return "\n".join(printer.lines) + "\n"


def print_stmt(node: Stmt) -> str:
    """One statement as text."""
    printer = Printer()
    printer.stmt(node)
    return "\n".join(printer.lines)
