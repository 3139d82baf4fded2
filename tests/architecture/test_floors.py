"""The floors of the engine, and packages without cycles: what lies below knows nothing of what stands on it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from tests.architecture.tree import Source, sources, within

ENGINE = "sage.runners.engine"

# From the ground up. A floor imports itself and what is below it.
FLOORS = ("core", "serde", "memory", "checkpoint", "operators", "codegen", "runtime")


def floor_of(module: str) -> int | None:
    """The floor that a module of the engine is on; None for what is not in the engine."""
    return next((level for level, name in enumerate(FLOORS) if within(module, f"{ENGINE}.{name}")), None)


def imported_modules(source: Source) -> Iterator[tuple[str, int]]:
    """Each of our modules that a file imports when it runs, and the line."""
    modules = {other.module for other in sources()}
    for imported in source.imports:
        name = imported.module
        while name and name not in modules:
            name = name.rpartition(".")[0]
        if name and not imported.for_typing_only:
            yield name, imported.line


def test_the_engine_stands_on_its_floors() -> None:
    broken = [
        f"{source.path}:{line} ({FLOORS[own]}) imports {name} ({FLOORS[other]})"
        for source in sources("runners/engine")
        if (own := floor_of(source.module)) is not None
        for name, line in imported_modules(source)
        if (other := floor_of(name)) is not None and other > own
    ]
    assert not broken, "\n".join(["", *broken])


def test_every_module_of_the_engine_is_on_a_floor() -> None:
    homeless = [
        source.path
        for source in sources("runners/engine")
        if floor_of(source.module) is None and source.module != ENGINE
    ]
    assert homeless == []


def test_packages_do_not_import_each_other_in_circles() -> None:
    """A package is a folder by itself: what it has in folders below is not part of it."""
    edges: dict[str, set[str]] = defaultdict(set)
    for source in sources():
        for name, _ in imported_modules(source):
            edges[package_of(source.module)].add(package_of(name))
    for package, others in edges.items():
        others.discard(package)
    circles = list(_circles(edges))
    assert not circles, "\n".join(["", *(" <-> ".join(circle) for circle in circles)])


def package_of(module: str) -> str:
    """The package that a module is in; a package is in itself."""
    packages = {source.module for source in sources() if source.path.endswith("__init__.py")}
    return module if module in packages else module.rpartition(".")[0]


def _circles(edges: dict[str, set[str]]) -> Iterator[list[str]]:
    """Sets of packages that reach each other."""
    reached = {package: _reachable(package, edges) for package in edges}
    seen: set[str] = set()
    for package in sorted(edges):
        circle = sorted(other for other in reached[package] if package in reached.get(other, ()))
        if package not in seen and len(circle) > 1:
            seen.update(circle)
            yield circle


def _reachable(start: str, edges: dict[str, set[str]]) -> set[str]:
    found, ahead = set(), [start]
    while ahead:
        for other in edges.get(ahead.pop(), ()):
            if other not in found:
                found.add(other)
                ahead.append(other)
    return found
