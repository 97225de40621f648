"""Builds the one extension module: every C source once, every instruction set with flags of its own."""

import os
import platform
import sys
import tempfile
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.errors import CompileError, LinkError

CSRC = Path("csrc")
CORE = sorted(str(path) for path in [*CSRC.glob("*.c"), *CSRC.glob("ops/*.c")])
HEADERS = sorted(str(path) for suffix in ("h", "def") for path in CSRC.rglob(f"*.{suffix}"))

X86 = {"x86_v2": "x86-64-v2", "x86_v3": "x86-64-v3", "x86_v4": "x86-64-v4"}
# where a core writes what another one read, its cache lines are asked for in order to write (prefetchw, which
# processors that do not know it pass over)
X86_EXTRA = {"x86_v3": ["-mprfchw"], "x86_v4": ["-mprefer-vector-width=512", "-mprfchw"]}

# gnu11 with contraction: plain c11 would give no fused multiply-add. Never -ffast-math: it would change the
# floating-point environment of the whole process and drop NaN. Here it is errno and traps that are given up.
FLAGS = [
    "-std=gnu11",
    "-O3",
    "-g0",
    "-fvisibility=hidden",
    "-ffp-contract=fast",
    "-fno-math-errno",
    "-fno-trapping-math",
]
FLAGS += ["-Wall", "-Wextra"]
# GCC on x86 clears a structure by an instruction that takes some twenty cycles: 1 % of the smallest steps.
SMALL_MEMORY = ["-mmemset-strategy=vector_loop:512:noalign,libcall:-1:noalign"]
# C throws nothing: these tables are a thirtieth of the wheel. (Windows walks the stack with them.)
NO_UNWIND_TABLES = "-fno-asynchronous-unwind-tables"

Spelling = tuple[list[str], list[str]]
"""Arguments for the compiler and for the linker."""

PURE = os.environ.get("FASTBP_PURE", "") not in ("", "0")
FREE_THREADED = bool(__import__("sysconfig").get_config_var("Py_GIL_DISABLED"))
LIMITED_API = "0x030B0000"  # CPython 3.11


def isa_flags() -> dict[str, list[str]]:
    """Compiler flags of each instruction set for the architecture that is built for."""
    target = os.environ.get("ARCHFLAGS", "") + platform.machine().lower()
    if "arm64" in target or "aarch64" in target:
        return {"neon": []}
    if "x86_64" in target or "amd64" in target:
        return {isa: [f"-march={march}", *X86_EXTRA.get(isa, [])] for isa, march in X86.items()}
    sys.exit(f"fastbp has no kernels for {platform.machine()}: install it with FASTBP_PURE=1 (NumPy only)")


class BuildExtension(build_ext):
    """build_ext that adds one object per instruction set and element type, and OpenMP where there is any."""

    def build_extension(self, ext: Extension) -> None:
        if self.compiler.compiler_type == "msvc":  # no vector types in MSVC itself: clang-cl has them
            self.compiler.initialize()
            self.compiler.cc = "clang-cl"
            flags = [f"/clang:{flag}" for flag in FLAGS]
        else:
            flags = [*FLAGS, NO_UNWIND_TABLES]
            if self.first_that_builds("int main(void) { return 0; }\n", [(SMALL_MEMORY, [])]):
                flags += SMALL_MEMORY
        openmp = self.openmp_flags()
        ext.extra_compile_args = flags + openmp[0]
        ext.extra_link_args = openmp[1]
        ext.extra_objects = [
            object_file
            for isa, march in isa_flags().items()
            for bits in (32, 64)
            for object_file in self.compiler.compile(
                [str(CSRC / "isa" / f"{isa}.c")],
                output_dir=str(Path(self.build_temp) / f"{isa}_f{bits}"),  # one source, several objects
                macros=[("REAL_BITS", str(bits))],
                extra_postargs=flags + march,
                depends=HEADERS,
            )
        ]
        super().build_extension(ext)

    def openmp_flags(self) -> Spelling:
        """Compile and link arguments of the first OpenMP spelling that compiles, links and is OpenMP."""
        program = "#include <omp.h>\n#ifndef _OPENMP\n#error none\n#endif\n"
        program += "int main(void) { return omp_get_max_threads() < 1; }\n"
        spellings = [(["-fopenmp"], ["-fopenmp"]), (["-Xclang", "-fopenmp"], ["-lomp"]), (["/openmp"], [])]
        found = self.first_that_builds(program, spellings)
        if found is None:
            self.warn("this compiler has no OpenMP: fastbp is built for one thread")
        return found or ([], [])

    def first_that_builds(self, program: str, spellings: list[Spelling]) -> Spelling | None:
        """Return the first compile and link arguments that make a program of this source."""
        for compile_arguments, link_arguments in spellings:
            with tempfile.TemporaryDirectory() as folder:
                source = Path(folder) / "program.c"
                source.write_text(program)
                try:
                    objects = self.compiler.compile(
                        [str(source)], output_dir=folder, extra_postargs=compile_arguments
                    )
                    self.compiler.link_executable(
                        objects, str(Path(folder) / "program"), extra_postargs=link_arguments
                    )
                except (CompileError, LinkError):
                    continue
                return compile_arguments, link_arguments
        return None


def extensions() -> list[Extension]:
    if PURE:
        return []
    return [
        Extension(
            "fastbp.engine._native",
            sources=["fastbp/engine/_native.pyx", *CORE],
            depends=HEADERS,
            include_dirs=[str(CSRC)],
            define_macros=[] if FREE_THREADED else [("Py_LIMITED_API", LIMITED_API)],
            py_limited_api=not FREE_THREADED,
        )
    ]


setup(
    ext_modules=extensions(),
    cmdclass={"build_ext": BuildExtension},
    options={} if PURE or FREE_THREADED else {"bdist_wheel": {"py_limited_api": "cp311"}},
)
