"""Tables for the command line."""

import csv

import numpy as np

QUICK = ["--epochs", "2", "--layers", "4"]


def write_flowers(path="flowers.csv", rows=120, delimiter=","):
    """Classes that two numbers and a colour tell apart."""
    rng = np.random.default_rng(0)
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, delimiter=delimiter)
        writer.writerow(["length", "width", "colour", "constant", "species"])
        for row in range(rows):
            kind = row % 3
            length, width = rng.normal(kind, 0.2), rng.normal(10 * kind, 2)
            colour = ["white", "blue", ""][kind] if rng.random() < 0.9 else "white"
            writer.writerow([f"{length:.3f}", f"{width:.2f}", colour, 1, ["rose", "iris", "lily"][kind]])
    return path


def write_prices(path="prices.csv", rows=200):
    rng = np.random.default_rng(1)
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["size", "town", "price"])
        for _ in range(rows):
            size, town = rng.uniform(20, 200), rng.integers(2)
            writer.writerow([f"{size:.1f}", ["Ulm", "Bonn"][town], f"{3000 * size + 50_000 * town:.0f}"])
    return path


def read_columns(path) -> dict[str, list[str]]:
    with open(path, newline="", encoding="utf-8") as file:
        rows = list(csv.reader(file))
    return dict(zip(rows[0], map(list, zip(*rows[1:], strict=True)), strict=True))
