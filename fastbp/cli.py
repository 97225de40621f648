"""The command ``fastbp``: its arguments, its output streams and its errors.

What goes wrong for a reason outside this package is one line on stderr and exit code 2; Ctrl-C is 130.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from fastbp._version import __version__
from fastbp.console import complain, discard_output

INTERRUPTED = 130  # 128 + SIGINT, as shells count
CLOSED_PIPE = 141  # 128 + SIGPIPE


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Parameters
    ----------
    argv : sequence of str, optional
        Arguments without the program's name; those of the process if not given.

    Returns
    -------
    int
        Exit code: 0, 2 for an error in arguments or files, 130 when interrupted, 141 when the reader
        of the output has gone.
    """
    try:
        arguments = _parser().parse_args(argv)
        arguments.run(arguments)
        if sys.stdout is not None:
            sys.stdout.flush()
        return 0
    except SystemExit as stop:  # --help and --version
        return stop.code if isinstance(stop.code, int) else 0
    except KeyboardInterrupt:
        return _fail("interrupted", INTERRUPTED)
    except BrokenPipeError:
        discard_output()
        return CLOSED_PIPE
    except OSError as error:
        return _fail(f"{error.filename}: {error.strerror}" if error.filename else str(error))
    except MemoryError as error:
        return _fail(f"out of memory ({error})" if str(error) else "out of memory")
    except ValueError as error:
        return _fail(str(error))


class _Parser(argparse.ArgumentParser):
    """Errors in arguments take the same way out as all others."""

    def error(self, message: str) -> NoReturn:
        raise ValueError(f"{message} (see: {self.prog} --help)")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="fastbp", description="Train and run feed-forward neural networks on CPU cores.")
    parser.add_argument("--version", action="version", version=f"fastbp {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _add_train(commands)
    _add_predict(commands)
    _add_info(commands)
    _add_bench(commands)
    return parser


def _add_train(commands: Any) -> None:
    train = commands.add_parser(
        "train",
        help="train on a table, or on the handwritten digits that come with fastbp",
        description="Train on a table and save the model; without a table, on 1,797 handwritten digits.",
    )
    train.add_argument(
        "table", nargs="?", help="text file of columns, the first line names them (.csv, .tsv)"
    )
    train.add_argument("--target", metavar="NAME", help="column to predict")
    train.add_argument("--task", choices=("auto", "classification", "regression"), default="auto")
    train.add_argument(
        "--layers", type=_sizes, metavar="64,64", help="units of the hidden layers; 0 for none"
    )
    train.add_argument("--activation", default="relu", help="of the hidden layers (default: relu)")
    train.add_argument("--dropout", type=_fraction, metavar="RATE", help="after each hidden layer")
    train.add_argument("--epochs", type=_positive, metavar="N", help="passes through the rows")
    train.add_argument("--batch-size", type=_positive, metavar="N")
    train.add_argument("--learning-rate", type=_rate, metavar="RATE")
    train.add_argument("--optimizer", choices=("adam", "adamw", "rmsprop", "sgd"), default="adam")
    train.add_argument("--loss", help="cross_entropy; or mean_squared_error, mean_absolute_error, huber")
    train.add_argument(
        "--validation-split", type=_fraction, default=0.2, metavar="PART", help="(default: 0.2)"
    )
    train.add_argument(
        "--seed", type=_natural, default=0, help="of weights, batches and a table's held-out rows"
    )
    train.add_argument("--dtype", choices=("float32", "float64"), default="float32")
    train.add_argument("--threads", type=_positive, metavar="N")
    train.add_argument(
        "--out",
        metavar="FILE",
        help="model file (default: the table's name with .safetensors, in this folder)",
    )
    _add_delimiter(train)
    train.set_defaults(run=_train)


def _add_predict(commands: Any) -> None:
    predict = commands.add_parser(
        "predict",
        help="predict the target for each row of a table",
        description="Predict the target for each row of a table. It may have more columns than are needed.",
    )
    predict.add_argument("model", help="file that `fastbp train TABLE` wrote")
    predict.add_argument("table", help="table with the columns the model was trained on")
    predict.add_argument("--out", metavar="FILE", help="file for the predictions (default: standard output)")
    predict.add_argument("--proba", action="store_true", help="also the probability of each class")
    predict.add_argument("--threads", type=_positive, metavar="N")
    _add_delimiter(predict)
    predict.set_defaults(run=_predict)


def _add_info(commands: Any) -> None:
    info = commands.add_parser(
        "info",
        help="show this installation, or what is in a model file",
        description="Show this installation of fastbp, or what is in a model file.",
    )
    info.add_argument("model", nargs="?", help="model file")
    info.set_defaults(run=_info)


def _add_bench(commands: Any) -> None:
    bench = commands.add_parser(
        "bench",
        help="measure this machine, and training on it",
        description="Measure what this machine can do, and how fast it trains, in under a minute.",
    )
    bench.add_argument("--nets", type=_names, metavar="tiny,mnist", help="of the seven (default: all)")
    bench.add_argument("--threads", type=_positive, metavar="N", help="most threads (default: all cores)")
    bench.add_argument(
        "--seconds", type=_rate, default=25.0, metavar="S", help="rough length of the training (default: 25)"
    )
    bench.add_argument("--plot", metavar="FILE", help='image to draw; needs pip install "fastbp[plot]"')
    bench.set_defaults(run=_bench)


def _add_delimiter(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--delimiter", type=_delimiter, default="auto", metavar="CHAR", help="(default: auto)"
    )


# Commands are imported when they run: --version and --help need none of them.


def _train(arguments: argparse.Namespace) -> None:
    from fastbp import commands

    if arguments.table is None:
        commands.train_digits(arguments)
    else:
        commands.train_table(arguments)


def _predict(arguments: argparse.Namespace) -> None:
    from fastbp import commands

    commands.predict(arguments)


def _info(arguments: argparse.Namespace) -> None:
    from fastbp import commands

    commands.info(arguments.model)


def _bench(arguments: argparse.Namespace) -> None:
    from fastbp import commands

    commands.bench(arguments)


def _number(
    convert: Callable[[str], float], accepts: Callable[[float], bool], expected: str
) -> Callable[[str], Any]:
    """Make a type for argparse: a number within limits."""

    def parse(text: str) -> float:
        try:
            value = convert(text)
        except ValueError:
            value = math.nan
        if not accepts(value):
            raise argparse.ArgumentTypeError(f"expected {expected}, not {text!r}")
        return value

    return parse


_positive = _number(int, lambda value: value >= 1, "a whole number from 1")
_natural = _number(int, lambda value: 0 <= value < 2**63, "a whole number from 0")
_fraction = _number(float, lambda value: 0 <= value < 1, "a number from 0 to below 1")
_rate = _number(float, lambda value: 0 < value < math.inf, "a number above 0")


def _sizes(text: str) -> tuple[int, ...]:
    if text.strip() == "0":
        return ()
    return tuple(_positive(part.strip()) for part in text.split(","))


def _names(text: str) -> list[str]:
    return [part.strip() for part in text.split(",")]


def _delimiter(text: str) -> str:
    named = {"auto": "auto", "tab": "\t", "\\t": "\t", "comma": ",", "semicolon": ";"}
    if text not in named and len(text) != 1:
        raise argparse.ArgumentTypeError(f"expected one character, 'tab' or 'auto', not {text!r}")
    return named.get(text, text)


def _fail(message: str, code: int = 2) -> int:
    complain(message)
    return code
