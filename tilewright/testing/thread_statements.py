"""Random thread-level code: every thread's own state, a shared tile that all of them read and write, and everything that makes them meet (floor 9).

Numbers are small integers, so that every executor has the same ones. Stores go to one element per thread, so that no statement races; in which order the
statements see each other's elements is what is tested.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field

from tilewright import dtypes
from tilewright.testing.bounds import Bound
from tilewright.testing.scene import Scene

_MODULUS = 97
_MOST_LINES = 40


def thread_code(scene: Scene) -> bool:
    """Threads compute with each other in a shared tile, which other statements read afterwards."""
    rng, threads = scene.rng, scene.threads
    if scene.turns > 4 or threads < 2:
        return False
    tile = scene.tile((threads,), dtypes.int32, "shared")
    code = _Code(scene, scene.name("tx"), tile.name)
    if scene.columns == threads:
        scene.emit(f"{code.thread} = T.get_thread_binding(0)")
    else:
        scene.emit(f"{code.thread} = T.get_thread_binding(0) + T.get_thread_binding(1) * {scene.columns}")
    scene.emit(f"{tile.name}[{code.thread}] = {code.thread} % {rng.choice((3, 7, 10))}")
    code.own = [scene.variable(dtypes.int32) for _ in range(rng.randrange(1, 3))]
    code.array = scene.name("a")
    scene.allocations.append(f"{code.array} = T.alloc_local((2,), 'int32')")
    scene.emit(f"T.fill({code.array}, {rng.randrange(5)})")
    own, code.own = code.own, []
    for name in own:
        scene.emit(f"{name} = {code.value()}")
        code.own.append(name)
    code.body(rng.randrange(2, 6), depth=0, is_common=True)
    scene.emit(f"{tile.name}[{code.thread}] = {code.value(2)} % {_MODULUS}")
    scene.write(tile, Bound(dtypes.int32, float(_MODULUS)), is_whole=True)
    return True


@dataclass
class _Code:
    """The state of the code being written. `common` are integers that are the same on all threads."""

    scene: Scene
    thread: str
    tile: str
    own: list[str] = field(default_factory=list)
    array: str = ""
    common: list[str] = field(default_factory=list)
    lines: int = 0

    @property
    def rng(self) -> random.Random:
        return self.scene.rng

    # -- values
    def place(self) -> str:
        """An element of the shared tile for every thread, another one for each."""
        rng, n, t = self.rng, self.scene.threads, self.thread
        choices = [t, t, f"{n - 1} - {t}", f"({t} + {rng.randrange(1, n)}) % {n}"]
        if n % 2 == 0:
            choices.append(f"{t} // 2 + {t} % 2 * {n // 2}")
        return rng.choice(choices)

    def value(self, depth: int = 1) -> str:
        """An integer expression of a thread."""
        rng = self.rng
        atoms = [self.thread, str(rng.randrange(6)), *self.own, *self.common, *(i.text for i in self.scene.indices)]
        if self.array:
            atoms.append(f"{self.array}[{rng.randrange(2)}]")
        atoms += ["T.get_lane_idx()", "T.get_warp_idx()"] * (rng.random() < 0.2)
        if self.own:
            atoms += [f"{self.tile}[{self.place()}]", f"{self.tile}[{rng.randrange(self.scene.threads)}]"]
        if depth == 0:
            return rng.choice(atoms)
        left, right = self.value(depth - 1), self.value(depth - 1)
        return rng.choice((f"({left} + {right})", f"({left} - {right})", f"({left} * 3 + {right})", f"T.max({left}, {right})", f"({left} ^ ({right} % 8))"))

    def condition(self, is_common: bool) -> str:
        rng = self.rng
        if is_common:
            known = [*self.common, *(i.text for i in self.scene.indices), f"{self.tile}[{rng.randrange(self.scene.threads)}]"]
            return f"{rng.choice(known)} % {rng.randrange(2, 4)} == {rng.randrange(2)}"
        if rng.random() < 0.1:
            return f"T.shuffle_elect({rng.choice((0, 32, 64))})"
        own = rng.choice((self.thread, f"{self.thread} % 32", f"{self.thread} // 32", *self.own, self.value()))
        return rng.choice((f"{own} < {rng.randrange(self.scene.threads)}", f"{own} % {rng.randrange(2, 5)} == 0", f"{self.tile}[{self.place()}] % 2 == 0"))

    # -- statements
    def body(self, count: int, depth: int, is_common: bool) -> None:
        for _ in range(count):
            self.statement(depth, is_common)

    def statement(self, depth: int, is_common: bool) -> None:
        self.lines += 1
        plain = [self._store, self._store, self._own, self._exchange, self._atomic] + ([self._meet] * 2 if is_common else [])
        nested = [self._branch, self._branch, self._loop, self._while] if depth < 3 and self.lines < _MOST_LINES else []
        choice = self.rng.randrange(len(plain) + len(nested))
        if choice < len(plain):
            plain[choice]()
        else:
            nested[choice - len(plain)](depth, is_common)

    def _store(self) -> None:
        self.scene.emit(f"{self.tile}[{self.place()}] = {self.value(2)} % {_MODULUS}")

    def _own(self) -> None:
        target = self.rng.choice((*self.own, f"{self.array}[{self.rng.randrange(2)}]"))
        self.scene.emit(f"{target} = {self.value(2)} % {_MODULUS}")

    def _atomic(self) -> None:
        kind = self.rng.choice(("add", "max", "min"))
        self.scene.emit(f"T.atomic_{kind}({self.tile}[{self.value()} % {self.scene.threads}], {self.value()} % 5)")
        self.scene.emit(f"{self.tile}[{self.thread}] = {self.tile}[{self.thread}] % {_MODULUS}")

    def _exchange(self) -> None:
        rng, name = self.rng, self.rng.choice(self.own)
        width = rng.choice((32, 32, 16, 4))
        made = rng.choice(
            (
                f"T.shfl_xor({name}, {rng.choice((1, 2, 5, 16))}, {width})",
                f"T.shfl_up({name}, {rng.randrange(1, 5)}, {width})",
                f"T.shfl_down({name}, {rng.randrange(1, 5)}, {width})",
                f"T.shfl_sync({name}, {rng.randrange(32)}, {width})",
                f"T.any_sync({name} > 20)",
                f"T.all_sync({name} < 50)",
                f"T.cast(T.popcount(T.ballot_sync({name} % 2 == 0)), 'int32')",
                f"T.cast(T.popcount(T.match_any_sync({name} % 5)), 'int32')",
                f"T.warp_reduce_sum({name})",
                f"T.warp_reduce_max({name})",
            )
        )
        self.scene.emit(f"{rng.choice(self.own)} = {made} % {_MODULUS}")

    def _meet(self) -> None:
        """Something that all threads do together."""
        rng, scene, name = self.rng, self.scene, self.rng.choice(self.own)
        draw = rng.random()
        if draw < 0.3:
            scene.emit("T.sync_threads()")
        elif draw < 0.4:
            self._reduction(name)
        elif draw < 0.6:
            kind, index = rng.choice(("count", "and", "or")), scene.name("n")
            scene.emit(f"{index} = T.syncthreads_{kind}({name} % 3 == 0)")
            scene.emit(f"{name} = {name} + {index}")
        elif draw < 0.8:
            index = scene.name("i")
            with scene.block(f"for {index} in T.Parallel({scene.threads}):"):
                common = rng.choice((*self.common, "1"))
                scene.emit(f"{self.tile}[{index}] = ({self.tile}[{index}] * 2 + {common}) % {_MODULUS}")
        else:
            copied = scene.name("c")
            scene.allocations.append(f"{copied} = T.alloc_{rng.choice(('fragment', 'shared'))}(({scene.threads},), 'int32')")
            scene.emit(f"T.copy({self.tile}, {copied})")
            scene.emit(f"{name} = {copied}[{self.place()}]")

    def _reduction(self, name: str) -> None:
        """A value combined over the threads of the block, or over those of a row or column of it."""
        rng, scene = self.rng, self.scene
        combine, identity = rng.choice((("x + y", 0), ("T.max(x, y)", -(2**31)), ("T.min(x, y)", 2**31 - 1), ("x | y", 0), ("x ^ y", 0)))
        result = scene.name("r")
        scene.allocations.append(f"{result} = T.alloc_local((1,), 'int32')")
        axes = ["T.get_thread_binding(0)"] if scene.columns == scene.threads else [f"T.get_thread_binding({k})" for k in rng.choice(((0,), (1,), (0, 1)))]
        condition = rng.choice(("True", f"{self.thread} % 3 == 0"))
        with scene.block(
            f"with T.attr(T.comm_reducer(lambda x, y: {combine}, [T.int32({identity})]), 'reduce_scope', T.reinterpret(T.uint64(0), dtype='handle')):"
        ):
            arguments = f"T.uint32(1), {self.value()} % {_MODULUS}, {condition}, {result}[0], {', '.join(axes)}, dtype='handle'"
            scene.emit(f"T.evaluate(T.tvm_thread_allreduce({arguments}))")
        scene.emit(f"{name} = {result}[0] % {_MODULUS}")

    def _branch(self, depth: int, is_common: bool) -> None:
        rng, scene = self.rng, self.scene
        stays = is_common and rng.random() < 0.4
        with scene.block(f"if {self.condition(stays)}:"):
            self.body(rng.randrange(1, 4), depth + 1, stays)
        if rng.random() < 0.4:
            with scene.block("else:"):
                self.body(rng.randrange(1, 3), depth + 1, stays)

    def _loop(self, depth: int, is_common: bool) -> None:
        rng, scene = self.rng, self.scene
        stays = is_common and rng.random() < 0.6
        index = scene.name("k")
        extent = str(rng.choice((0, 1, 2, 3))) if stays or rng.random() < 0.5 else f"({self.value()}) % 4"
        with scene.block(f"for {index} in {rng.choice(('T.serial', 'range', 'T.unroll'))}({extent}):"):
            self.common.append(index)
            self.body(rng.randrange(1, 4), depth + 1, stays)
            self._leave(stays, depth)
            self.common.pop()

    def _while(self, depth: int, is_common: bool) -> None:
        rng, scene = self.rng, self.scene
        stays = is_common and rng.random() < 0.5
        left = scene.variable(dtypes.int32)
        scene.emit(f"{left} = {rng.randrange(4) if stays else f'({self.value()}) % 4'}")
        with scene.block(f"while {left} > 0:"):
            scene.emit(f"{left} = {left} - 1")
            self.body(rng.randrange(1, 4), depth + 1, stays)
            self._leave(stays, depth)

    def _leave(self, is_common: bool, depth: int) -> None:
        """Some threads, or all of them, leave the loop or its turn."""
        if self.rng.random() < 0.5:
            # Where the loop holds what all threads do together, they leave it together.
            with self.scene.block(f"if {self.condition(is_common)}:"):
                self.scene.emit(self.rng.choice(("break", "continue")))
            self.body(1, depth + 1, is_common)


__all__ = ["thread_code"]
