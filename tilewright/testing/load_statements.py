"""Random loads that are more than a copy: asynchronous ones, and patches of an image (floor 9)."""

from __future__ import annotations

from dataclasses import replace

from tilewright.testing import bounds
from tilewright.testing.scene import Scene, Tile
from tilewright.testing.tile_statements import window


def async_copies(scene: Scene) -> bool:
    """Some T.async_copy in groups, statements that do without them, then waits before each is used."""
    rng = scene.rng
    started: list[tuple[Tile, bounds.Bound]] = []
    for _ in range(rng.choice((1, 1, 2, 3))):
        tensor = rng.choice(scene.inputs)
        shape = scene.small_shape()[-len(tensor.sizes) :]
        source = window(scene, tensor, shape)
        if source is None or tensor.bound is None:
            continue
        tile = scene.tile(shape, tensor.dtype, "shared")
        scene.emit(f"T.async_copy({source}, {tile.name})")
        scene.emit("T.ptx_commit_group()")
        started.append((tile, bounds.join(tensor.bound, replace(tensor.bound, magnitude=0.0))))
    if not started:
        return False
    if scene.depth < 2 and rng.random() < 0.5:
        scene.statement()
    pending = len(started) - 1
    for tile, bound in started:
        if pending == 0 or rng.random() < 0.5:
            scene.emit(f"T.ptx_wait_group({pending})")
            scene.write(tile, bound, is_whole=True)
            if pending and rng.random() < 0.5:
                scene.statement()
        pending -= 1
    for tile, bound in started:
        scene.write(tile, bound, is_whole=True)
    return True


def patches(scene: Scene) -> bool:
    """T.im2col from a tensor of four axes."""
    rng = scene.rng
    images = [t for t in scene.inputs if len(t.sizes) == 4 and t.bound is not None]
    if not images:
        return False
    image = rng.choice(images)
    assert image.bound is not None
    tile = scene.tile((rng.choice(scene.sizes(33)), rng.choice(scene.sizes(24))), rng.choice((image.dtype, None)))
    bound = bounds.convert(bounds.join(image.bound, replace(image.bound, magnitude=0.0)), tile.dtype)
    if bound is None:
        return False
    steps = [rng.choice(["0", "1", *(i.text for i in scene.indices)]) for _ in range(2)]
    filter_sizes = rng.choice(((1, 1, 1, 0), (3, 1, 1, 1), (3, 2, 1, 0), (2, 1, 2, 2), (2, 3, 1, 1)))
    scene.emit(f"T.im2col({image.name}, {tile.name}, {', '.join(steps)}, {', '.join(map(str, filter_sizes))})")
    scene.write(tile, bound, is_whole=True)
    return True
