"""Processes that share a directory, and processes that are killed in it, never harm each other."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tilewright import disk_cache as cache_module
from tilewright.disk_cache import DiskCache, cache_key

CHILD_ENVIRONMENT = {**os.environ, "PYTHONPATH": str(Path(cache_module.__file__).parents[1])}
KEY = cache_key({"source": "kernel"})
OTHER_KEY = cache_key({"source": "other kernel"})

PROCESS = """
import json, random, sys, warnings
from pathlib import Path
from tilewright.disk_cache import DiskCache, cache_key
directory, process, round_count, is_evicting = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4] == "evicting"
warnings.simplefilter("error")
cache = DiskCache(Path(directory), max_size_bytes=400_000 if is_evicting else None)
names = [f"shared {i}" for i in range(8)] + [f"own {process} {i}" for i in range(4)]
order = random.Random(process)

def compile_kernel(name):
    return {"cubin": name.encode() * order.choice([1, 1000]) + b"!", "name": name.encode()}

compiled = wrong = refused = 0
print("ready", flush=True)
sys.stdin.readline()
for _ in range(round_count):
    order.shuffle(names)
    for name in names:
        key = cache_key({"name": name})
        sections = cache.load(key)
        if sections is None:
            compiled += 1
            refused += not cache.store(key, compile_kernel(name))
        elif sections["name"] != name.encode() or sections["cubin"] not in (name.encode() + b"!", name.encode() * 1000 + b"!"):
            wrong += 1
        elif order.random() < 0.1:
            refused += not cache.store(key, compile_kernel(name))
    if is_evicting and process % 4 == 0:
        cache.collect(order.choice([0, 50_000]))
    wrong += len(cache.verify()) if process % 4 == 1 and order.random() < 0.1 else 0
print(json.dumps({"compiled": compiled, "wrong": wrong, "refused": refused}))
"""


@pytest.mark.parametrize("mode", ["keeping", "evicting"])
def test_sixteen_processes_on_one_empty_cache(tmp_path: Path, mode: str) -> None:
    process_count, round_count = 16, 12
    directory = tmp_path / "cache"
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", PROCESS, str(directory), str(number), str(round_count), mode],
            env=CHILD_ENVIRONMENT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for number in range(process_count)
    ]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:  # all start together, on a directory that is not there yet
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    reports = []
    for process in processes:
        output, errors = process.communicate(timeout=60)
        assert process.returncode == 0, errors
        reports.append(json.loads(output))
    assert sum(report["wrong"] for report in reports) == sum(report["refused"] for report in reports) == 0
    assert not [name for name in os.listdir(directory) if name.endswith(".tmp")]
    cache = DiskCache(directory)
    assert cache.verify() == ()
    if mode == "keeping":
        assert len(cache.entries()) == 8 + 4 * process_count
        # Each own kernel once; each shared one at most once by each process that found it missing.
        assert all(4 <= report["compiled"] <= 12 for report in reports)


KILLER = """
import json, os, random, sys
from pathlib import Path
from tilewright.disk_cache import DiskCache
root, key, other_key = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
NAMES = ("makedirs", "mkdir", "open", "write", "close", "replace", "scandir", "unlink", "read", "fstat", "utime")

def arm(step):
    # Dies by SIGKILL just before (even steps) or just after (odd steps) a call; the file is written in about 12 pieces, a call each.
    count = 0
    def tick():
        nonlocal count
        if count == step:
            os.kill(os.getpid(), 9)
        count += 1
    def wrap(name, original):
        def call(*arguments, **options):
            tick()
            if name == "write":
                descriptor, data = arguments
                arguments = (descriptor, data[: max(1, sizes["piece"])])
            result = original(*arguments, **options)
            tick()
            return result
        return call
    for name in NAMES:
        setattr(os, name, wrap(name, getattr(os, name)))

sizes = {"piece": 1}
killed = []
def payload(size):
    return {"cubin": random.Random(size).randbytes(size), "metadata": b"{}"}
def store(cache, size):
    cache.store(key, payload(size))
def overwrite(cache, size):
    cache.store(key, payload(size))
def load_damaged_and_store(cache, size):
    if cache.load(key) is None:
        cache.store(key, payload(size))
def collect(cache, size):
    cache.store(key, payload(size))
    cache.collect(0)
    cache.clear()

for scenario in (store, overwrite, load_damaged_and_store, collect):
    for size in (10, 4096, 60_000):
        step = 0
        while True:
            directory = root / f"{scenario.__name__}-{size}-{step}"
            cache = DiskCache(directory)
            if scenario is not store:
                cache.store(other_key, payload(7))
            if scenario is overwrite:
                cache.store(key, payload(size))
            if scenario is load_damaged_and_store:
                (directory / f"{key}.tw1").write_bytes(b"damaged")
            sizes["piece"] = (size + 400) // 12
            child = os.fork()
            if child == 0:
                arm(step)
                scenario(cache, size)
                os._exit(0)
            status = os.waitpid(child, 0)[1]
            if status == 0:
                break
            assert os.WIFSIGNALED(status) and os.WTERMSIG(status) == 9, status
            killed.append((str(directory), scenario.__name__, size))
            step += 1
print(json.dumps(killed))
"""

SURVIVOR = """
import json, os, random, sys, warnings
from pathlib import Path
from tilewright.disk_cache import DiskCache
warnings.simplefilter("error")
key, other_key = sys.argv[1], sys.argv[2]
missing = present = 0
def payload(size):
    return {"cubin": random.Random(size).randbytes(size), "metadata": b"{}"}
for directory, scenario, size in json.load(sys.stdin):
    cache = DiskCache(Path(directory))
    assert scenario == "load_damaged_and_store" or cache.verify() == ()
    sections = cache.load(key)
    assert sections is None or sections == payload(size), directory
    assert scenario != "overwrite" or sections is not None, directory
    assert scenario not in ("overwrite", "load_damaged_and_store") or cache.load(other_key) == payload(7), directory
    missing, present = missing + (sections is None), present + (sections is not None)
    assert cache.store(key, payload(size)) and cache.load(key) == payload(size), directory
    leftovers = [item.path for item in os.scandir(directory) if item.name.endswith(".tmp")]
    for path in leftovers:
        os.utime(path, (0, 0))
    assert cache.collect().temporary_count == len(leftovers) <= 1, directory
    assert not [name for name in os.listdir(directory) if name.endswith(".tmp")], directory
    assert cache.load(key) == payload(size), directory
print(json.dumps({"missing": missing, "present": present}))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork and SIGKILL")
def test_a_kill_at_any_step_leaves_a_cache_that_works(tmp_path: Path) -> None:
    killer = subprocess.run([sys.executable, "-c", KILLER, str(tmp_path), KEY, OTHER_KEY], env=CHILD_ENVIRONMENT, capture_output=True, text=True, timeout=60)
    assert killer.returncode == 0, killer.stderr
    killed = json.loads(killer.stdout)
    assert len(killed) >= 300
    survivor = subprocess.run(
        [sys.executable, "-c", SURVIVOR, KEY, OTHER_KEY],
        env=CHILD_ENVIRONMENT,
        input=killer.stdout,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert survivor.returncode == 0, survivor.stderr
    outcome = json.loads(survivor.stdout)
    assert outcome["missing"] > 50  # kills came before publication, and
    assert outcome["present"] > 50  # after it
    assert outcome["missing"] + outcome["present"] == len(killed)


@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGKILL")
def test_a_kill_from_outside_at_any_moment(tmp_path: Path) -> None:
    script = """
import sys
from pathlib import Path
from tilewright.disk_cache import DiskCache
cache = DiskCache(Path(sys.argv[1]))
print("ready", flush=True)
while True:
    for digit in "abcdef":
        cache.store(digit * 64, {"data": digit.encode() * 300_000})
"""
    generator = random.Random(7)
    loaded_count = 0
    for _ in range(6):
        process = subprocess.Popen([sys.executable, "-c", script, str(tmp_path)], env=CHILD_ENVIRONMENT, stdout=subprocess.PIPE, text=True)
        with process:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            time.sleep(generator.uniform(0.0, 0.05))
            process.send_signal(signal.SIGKILL)
        cache = DiskCache(tmp_path)
        assert cache.verify() == ()
        for digit in "abcdef":
            sections = cache.load(digit * 64)
            loaded_count += sections is not None
            assert sections is None or sections == {"data": digit.encode() * 300_000}
    assert loaded_count > 0
