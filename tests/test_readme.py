"""README and documentation: commands, links and examples that hold, names that are all mentioned."""

import doctest
import inspect
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

import fastbp as bp
from fastbp import (
    activations,
    constraints,
    initializers,
    layers,
    losses,
    metrics,
    optimizers,
    regularizers,
    schedules,
)
from fastbp.optimizer import Options

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text("utf-8")
REFERENCE = (ROOT / "docs" / "reference.md").read_text("utf-8")
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])


def blocks(text, language):
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def page_name(path):
    return str(path.relative_to(ROOT))


def test_two_commands_set_everything_up():
    (commands,) = blocks(README, "sh")
    work, tests = commands.splitlines()
    assert shlex.split(work) == ["pip", "install", ".", "&&", "fastbp", "train"]
    assert shlex.split(tests)[-2:] == ["&&", "pytest"]


def test_the_python_example_runs(tmp_path):
    (example,) = blocks(README, "python")
    result = subprocess.run(
        [sys.executable, "-"], input=example, capture_output=True, text=True, cwd=tmp_path, env=os.environ
    )
    assert result.returncode == 0, result.stderr
    accuracy = float(re.search(r"'accuracy': ([\d.]+)", result.stdout)[1])
    assert accuracy > 0.9
    assert "dense_forward" in result.stdout
    assert os.listdir(tmp_path) == ["digits.safetensors"]


@pytest.mark.parametrize("path", PAGES, ids=page_name)
def test_links_lead_somewhere(path):
    for target in re.findall(r"\]\(([^)\s]+)\)", path.read_text("utf-8")):
        if not target.startswith(("https://", "#")):
            assert (path.parent / target.partition("#")[0]).exists(), f"{page_name(path)}: {target}"


@pytest.mark.parametrize("path", PAGES, ids=page_name)
def test_examples_in_the_documentation_run(path):
    options = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    failures, _ = doctest.testfile(str(path), module_relative=False, optionflags=options, encoding="utf-8")
    assert failures == 0


# ---- the reference ----


def names(classes):
    return [kind for kind in classes if not kind.__name__.startswith("_") and kind.key]


def subclasses(base):
    for kind in base.__subclasses__():
        if kind.__module__.startswith("fastbp."):
            yield kind
            yield from subclasses(kind)


DESCRIBED = names(
    [
        *subclasses(losses.Loss),
        *subclasses(optimizers.Optimizer),
        *subclasses(initializers.Initializer),
        *subclasses(regularizers.Regularizer),
        *subclasses(constraints.Constraint),
        *subclasses(layers.Layer),
    ]
)


@pytest.mark.parametrize("kind", DESCRIBED, ids=lambda kind: kind.__name__)
def test_every_kind_is_listed_with_its_name_and_its_defaults(kind):
    parameters = inspect.signature(kind).parameters.values()
    arguments = [
        p.name if p.default is p.empty else f"{p.name}={p.default!r}"
        for p in parameters
        if p.name not in ("name", *Options.__annotations__)  # those have a table of their own
    ]
    assert f"`{kind.__name__}({', '.join(arguments)})`" in REFERENCE
    if kind.key not in ("dense", "dropout"):  # nobody asks for those by name
        assert f"`{kind.key}`" in REFERENCE


@pytest.mark.parametrize("option", Options.__annotations__)
def test_every_option_of_optimizers_is_listed_with_its_default(option):
    default = inspect.signature(optimizers.SGD).parameters[option].default
    assert f"`{option}={default!r}`" in REFERENCE


@pytest.mark.parametrize("kind", schedules.Schedule.__subclasses__(), ids=lambda kind: kind.__name__)
def test_every_schedule_is_listed_with_its_defaults(kind):
    if kind.__module__.startswith("fastbp."):
        parameters = inspect.signature(kind).parameters.values()
        arguments = [p.name if p.default is p.empty else f"{p.name}={p.default!r}" for p in parameters]
        assert f"`{kind.__name__}({', '.join(arguments)})`" in REFERENCE


@pytest.mark.parametrize(
    "name",
    [*losses._ALIASES, *initializers._ALIASES, *activations._ALIASES, *metrics.BY_NAME, *layers.__all__],
)
def test_every_other_name_is_listed(name):
    if name != "name_layers":
        assert re.search(rf"`{name}[`(]", REFERENCE)


@pytest.mark.parametrize("name", bp.__all__)
def test_every_public_name_is_mentioned(name):
    if name != "__version__":
        assert f"bp.{name}" in REFERENCE + README


def test_names_and_aliases_of_the_tables_are_true():
    """What stands in the first column gives what stands in the second one."""
    sections = {
        "Activations": activations,
        "Losses": losses,
        "Optimizers": optimizers,
        "Initializers": initializers,
        "Regularizers": regularizers,
        "Constraints": constraints,
    }
    for title, module in sections.items():
        table = REFERENCE.partition(f"## {title}\n")[2].partition("\n## ")[0]
        rows = re.findall(r"^\| (`.*?) \| `(\w+)(\(.*?\))` \|", table, re.MULTILINE)
        assert rows
        for first, kind, arguments in rows:
            for name in re.findall(r"`(\w+)`", first):
                expected = eval(f"{kind}{arguments}", vars(layers) | vars(module))
                assert repr(module.get(name)) == repr(expected)
