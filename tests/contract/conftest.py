"""What all contract tests share: the engines and the element types.

An engine is the reference or one instruction set of the native interpreter that this machine has. Where
there is no extension, or FASTBP_BACKEND or FASTBP_ISA force a choice, only what is left takes part.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from types import ModuleType

import numpy as np
import pytest

import fastbp
from fastbp.engine import backend, reference

NATIVE = backend.native()
ISAS = () if NATIVE is None else (NATIVE.ISA,) if os.environ.get("FASTBP_ISA") else NATIVE.isas()


@dataclass(frozen=True)
class Engine:
    """One engine, in use for as long as the test runs."""

    name: str
    native: ModuleType | None
    patch: pytest.MonkeyPatch

    @property
    def teams(self) -> tuple[int, ...]:
        """Numbers of threads whose results must be the same to the bit."""
        return (1, 2, 4) if self.native else (1,)

    def select(self) -> None:
        """Make models and eager kernels use this engine from now on."""
        self.patch.setattr(backend, "_NATIVE", self.native)
        self.patch.setattr(backend, "NAME", "native" if self.native else "reference")
        if self.native:
            self.patch.setattr(self.native, "ISA", self.name)

    def select_reference(self) -> None:
        """Make models and eager kernels use the reference from now on."""
        self.patch.setattr(backend, "_NATIVE", None)
        self.patch.setattr(backend, "NAME", "reference")

    def program(self, plan, parameters, gradients, state, counters) -> backend.Program:
        """Make a program on this engine."""
        module = self.native or reference
        return module.Program(plan, parameters, gradients, state, counters)

    def edges(self, dtype: str) -> dict[str, int]:
        """Sizes of vector, tile and blocks; those of float32 on AVX2 where nothing has such sizes."""
        if self.native:
            return self.native.tile_shape(dtype)
        return {"vector": 8, "group": 24, "kc": 256, "mc": 192, "nc": 1008}


@pytest.fixture(params=[*ISAS, "reference"])
def engine(request, monkeypatch):
    """Each engine in turn, with teams as large as the limit, however little work there is."""
    native = None if request.param == "reference" else NATIVE
    found = Engine(request.param, native, monkeypatch)
    found.select()
    before = fastbp.get_num_threads()
    if NATIVE:
        NATIVE.set_grain(0)
    fastbp.set_num_threads(1)
    yield found
    found.select()
    fastbp.set_num_threads(before)
    if NATIVE:
        NATIVE.set_grain(-1)
        NATIVE.set_intel(-1)


@pytest.fixture(params=["Intel", "another"])
def maker(request, engine):
    """The schedule depends on the processor's maker in places: both ways are tested on every machine."""
    if engine.native:
        engine.native.set_intel(request.param == "Intel")
    return request.param


@pytest.fixture
def rng():
    return np.random.default_rng(2024)
