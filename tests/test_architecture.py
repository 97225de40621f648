"""Who may know whom, in Python and in C, and what an import may pull in."""

import ast
import re
import subprocess
import sys
from operator import attrgetter
from pathlib import Path

import pytest

import fastbp

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "fastbp"
CSRC = ROOT / "csrc"

# A group knows itself and the groups named here, nothing else of the package.
GROUPS = {
    "basics": ("_version checks configurable console", ""),
    "plan": ("engine engine.plan engine.sparse engine.graph", ""),
    "descriptions": (
        "initializers regularizers constraints layer activations custom_layer normalization prelu scaling "
        "structure shape embedding layers losses schedules optimizer adaptive second_order optimizers",
        "basics plan",
    ),
    "planner": ("engine.layout engine.update_planner engine.planner", "basics plan descriptions"),
    "interpreters": (
        "engine.reference engine.reference_dense engine.reference_losses engine.reference_layers "
        "engine.operations engine.formulas engine.updates engine.random engine.segments engine._native "
        "engine.native.buffers engine.native.machine engine.native.schema engine.native.program "
        "engine.native.frozen engine.native.shuffle engine.native.permutation engine.native.kernels",
        "plan",
    ),
    "choice": ("engine.backend", "plan interpreters"),
    "machine": ("threads config machine", "basics choice"),
    "data": (
        "frames array_like sources samples streams data order metrics metrics.arguments "
        "metrics.regression metrics.classification metrics.probabilities",
        "basics plan choice",
    ),
    "kernels": ("kernel_arguments kernels", "basics plan choice interpreters"),
    "minimisation": ("full_batch", "plan descriptions planner choice kernels data"),
    "network": (
        "background chunks compiled_network network",
        "plan descriptions planner choice minimisation data",
    ),
    "files": ("model_file", ""),
    "inference": ("frozen", "choice data network"),
    "saving": ("saving", "basics plan descriptions data files"),
    "training": (
        "callbacks callbacks.base callbacks.monitor callbacks.stopping callbacks.learning_rate "
        "callbacks.files callbacks.backup checkpoint divergence training",
        "basics plan descriptions choice data network files saving",
    ),
    "exports": (
        "inference quantization c_kernels c_calls c_export",
        "basics plan descriptions interpreters files",
    ),
    "model": (
        "stack intake supervised model loading gradient_check explanation",
        "basics plan descriptions data network files saving training inference exports",
    ),
    "interop": (
        "interop interop.building interop.state interop.torch interop.keras interop.sklearn",
        "descriptions files model",
    ),
    "onnx": (
        "onnx onnx.library onnx.exporting onnx.reading onnx.operators onnx.affine onnx.composite onnx.chain "
        "onnx.loading",
        "basics plan descriptions files exports model",
    ),
    "tables": ("datasets table preprocessing", "basics"),
    "package": (
        "fastbp",
        "basics descriptions machine data kernels training model tables",
    ),
    "benchmark": ("workloads benchmark", "machine package"),
    "estimators": (
        "sklearn sklearn.base sklearn.classifier sklearn.construction sklearn.documentation sklearn.epochs "
        "sklearn.regressor sklearn.solvers",
        "plan descriptions choice network training model machine data",
    ),
    "command line": ("commands cli __main__", "basics machine tables package benchmark"),
}
GROUP_OF = {module: group for group, (modules, _) in GROUPS.items() for module in modules.split(" ")}

MODULES = {
    ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix("__init__").rstrip(".")
    or "fastbp": path
    for suffix in ("py", "pyx", "pxi")
    for path in PACKAGE.rglob(f"*.{suffix}")
}


def is_for_types_only(node):
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def statements(node):
    """The nodes of a module without what only type checkers read."""
    for child in ast.iter_child_nodes(node):
        if not is_for_types_only(child):
            yield child
            yield from statements(child)


def imports(path):
    """Names of everything that a Python file imports, at its top or later."""
    if path.suffix in (".pyx", ".pxi"):
        found = re.findall(
            r"^\s*from (fastbp[\w.]*) c?import|^\s*c?import (fastbp[\w.]*)", path.read_text(), re.M
        )
        yield from (first or second for first, second in found)
        return
    for node in statements(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name} has a relative import"
            for alias in node.names:
                name = f"{node.module}.{alias.name}"
                yield name if name.removeprefix("fastbp.") in MODULES else node.module
        elif isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "import_module":
            yield from (argument.value for argument in node.args if isinstance(argument, ast.Constant))


@pytest.mark.parametrize("module", MODULES)
def test_modules_know_only_whom_they_may_know(module):
    group = GROUP_OF.get(module)
    assert group, f"{module} needs a place in GROUPS"
    allowed = {group, *GROUPS[group][1].split()}
    for name in imports(MODULES[module]):
        if name.partition(".")[0] == "fastbp":
            known = GROUP_OF[name.removeprefix("fastbp.")]
            assert known in allowed, f"{module} ({group}) imports {name} ({known})"


def test_groups_know_each_other_in_one_direction():
    """Every group stands below those that know it."""
    order = list(GROUPS)
    for group, (_, known) in GROUPS.items():
        for other in filter(None, known.split()):
            assert order.index(other) < order.index(group), f"{group} knows {other}"


def test_only_the_extension_sees_the_c_interface():
    for path in [*MODULES.values(), *PACKAGE.rglob("*.pxd")]:
        if "fastbp.h" in path.read_text("utf-8"):
            assert path.stem == "_native", path.name


def test_only_the_choice_knows_the_extension():
    knowing = {m for m, path in MODULES.items() if "fastbp.engine._native" in set(imports(path))}
    assert knowing == {"engine.backend"}


def test_the_architecture_page_names_every_module():
    text = (ROOT / "ARCHITECTURE.md").read_text("utf-8")
    for module, path in MODULES.items():
        if path.name not in ("__init__.py", "__main__.py", "_version.py"):
            assert re.search(rf"\b{path.name}\b", text) or module in ("checks", "configurable"), path.name


# ---- C ----


def code(path):
    """A C file without comments and texts."""
    text = re.sub(r"/\*.*?\*/|//[^\n]*", "", path.read_text("utf-8"), flags=re.DOTALL)
    return re.sub(r'(?<!#include )"(?:[^"\\]|\\.)*"', '""', text)


def includes(path):
    """Paths in csrc/ of the files that a C file includes; of the system's headers the bare name."""
    for quote, name in re.findall(r'#\s*include\s+(["<])([^">]+)[">]', path.read_text("utf-8")):
        yield str((path.parent / name).resolve().relative_to(CSRC)) if quote == '"' else f"<{name}>"


def sources(*patterns):
    found = sorted(path for pattern in patterns for path in CSRC.glob(pattern))
    assert found, patterns
    return found


ABOVE_KERNELS = ("*.c", "*.h", "ops/*.c", "ops/*.h")


@pytest.mark.parametrize("path", sources("kernels/*.h"), ids=lambda path: path.name)
def test_kernels_know_no_threads_layers_or_arenas(path):
    for name in includes(path):
        assert name.startswith(("<", "kernels/")) or name in ("isa/vec.h", "kinds.def"), name
    words = set(re.findall(r"\w+", code(path)))
    assert not words & {"fbp_member", "fbp_program", "fbp_tensor", "fbp_op", "fbp_batch", "fbp_gemm", "arena"}
    assert not any(word.startswith(("omp_", "pthread_", "_OPENMP")) for word in words)


def test_the_table_of_kernels_stands_alone():
    assert set(includes(CSRC / "kernels" / "kernels.h")) == {"<stddef.h>", "<stdint.h>", "kinds.def"}


@pytest.mark.parametrize("path", sources("isa/*.c"), ids=lambda path: path.name)
def test_an_instruction_set_is_about_ten_lines(path):
    assert list(includes(path)) == ["kernels/table.h"]
    assert len(path.read_text("utf-8").splitlines()) <= 15


def test_the_vocabulary_knows_nothing_of_ours():
    assert all(name.startswith("<") for name in includes(CSRC / "isa" / "vec.h"))


@pytest.mark.parametrize("path", sources(*ABOVE_KERNELS, "kernels/*.h"), ids=lambda path: path.name)
def test_only_cpu_c_and_isa_name_an_instruction_set(path):
    if path.name != "cpu.c":
        named = re.findall(r"\b(?:\w*x86_v\d|\w*neon\w*|\w*AVX\w*|\w*avx\w*|_mm\d+_\w+)\b", code(path))
        assert not named, named
    vocabulary = {"<immintrin.h>", "<arm_neon.h>", "<smmintrin.h>"}
    assert not vocabulary & set(includes(path))


@pytest.mark.parametrize("path", sources(*ABOVE_KERNELS), ids=lambda path: path.name)
def test_nothing_above_the_kernels_names_an_element_type(path):
    """Scalars are double there, elements are untyped."""
    if path.name != "cpu.c":  # holds the tables of both
        assert not re.findall(r"\b(?:float|real|REAL_BITS)\b", code(path))
    assert not any(name.startswith("isa/") for name in includes(path))


@pytest.mark.parametrize("path", sources("ops/*.c"), ids=lambda path: path.name)
def test_operations_stand_on_gemm_and_the_team(path):
    assert set(includes(path)) <= {
        "ops/ops.h",
        "gemm.h",
        "<string.h>",
        "<stddef.h>",
        "<stdint.h>",
        "<math.h>",
    }


def test_the_matrix_product_knows_no_operations():
    known = {name for path in (CSRC / "gemm.c", CSRC / "gemm.h") for name in includes(path)}
    assert not any(name.startswith(("ops/", "isa/")) or name in ("ops.def", "program.c") for name in known)


@pytest.mark.parametrize("path", sources("**/*.c", "**/*.h"), ids=lambda path: path.name)
def test_the_core_never_prints_or_aborts(path):
    assert not re.findall(r"\b(?:f?printf|puts|abort|exit|assert|perror)\s*\(", code(path))


@pytest.mark.parametrize("path", sources("ops/*.c", "kernels/*.h", "team.c"), ids=lambda path: path.name)
def test_nothing_allocates_in_the_loop(path):
    assert not re.findall(r"\b(?:malloc|calloc|realloc|aligned_alloc|alloca)\s*\(", code(path))


# ---- what an import pulls in ----

HEAVY = (
    "pandas",
    "polars",
    "scipy",
    "sklearn",
    "torch",
    "matplotlib",
    "tqdm",
    "safetensors",
    "onnx",
    "keras",
    "IPython",
)


def loaded(code_to_run):
    code_to_run += "; import sys; print(*sys.modules)"
    result = subprocess.run([sys.executable, "-c", code_to_run], capture_output=True, text=True, check=True)
    return set(result.stdout.split())


def test_import_loads_nothing_that_is_not_needed_yet():
    modules = loaded("import numpy; import fastbp")
    later = {"cli", "commands", "explanation", "gradient_check", "preprocessing"}
    assert not modules & {*HEAVY, "argparse", "csv", *(f"fastbp.{name}" for name in later)}
    if "fastbp.engine._native" in modules:
        assert "fastbp.engine.reference" not in modules


def test_what_is_imported_later_is_there():
    assert set(fastbp.__all__) <= set(dir(fastbp))
    assert all(hasattr(fastbp, name) for name in fastbp.__all__)
    with pytest.raises(AttributeError, match=r"module 'fastbp' has no attribute 'teach'"):
        attrgetter("teach")(fastbp)


def test_training_in_silence_loads_no_progress_bar():
    train = "import fastbp as bp; m = bp.Sequential([bp.layers.Dense(1)], loss='mse'); m.fit([[1.0]], [1.0])"
    assert not loaded(train) & set(HEAVY)
