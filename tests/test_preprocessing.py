import json

import numpy as np
import pytest

from fastbp.preprocessing import MOST_LEVELS, CategoryColumn, NumberColumn, Preprocessing, choose_task
from fastbp.table import Table, TableError


def make_table(**columns) -> Table:
    values = [["" if value is None else str(value) for value in column] for column in columns.values()]
    return Table("t.csv", list(columns), [["\0".join(column)] for column in values], len(values[0]))


def fit(table: Table, target: str = "y", task: str = "auto", rows=None) -> Preprocessing:
    chosen, _ = choose_task(table, target, task)
    return Preprocessing.fit(
        table, target, chosen, np.arange(table.rows) if rows is None else np.asarray(rows)
    )


def test_numbers_are_standardised_with_the_training_rows_only():
    table = make_table(a=[1, 3, 100, None], y=["p", "q", "p", "q"])
    fitted = fit(table, rows=[0, 1])
    assert fitted.features == (NumberColumn("a", 2.0, 1.0),)
    assert fitted.transform(table).tolist() == [[-1], [1], [98], [0]]
    assert fitted.transform(table).dtype == np.float32
    assert fitted.transform(table, np.float64).dtype == np.float64


def test_categories_are_one_hot_and_missing_is_one_of_them():
    table = make_table(c=["red", "blue", None, "red"], y=["p", "q", "p", "q"])
    fitted = fit(table)
    assert fitted.inputs == ["c=", "c=blue", "c=red"]
    assert fitted.transform(table).tolist() == [[0, 0, 1], [0, 1, 0], [1, 0, 0], [0, 0, 1]]


def test_unknown_category_is_all_zeros():
    fitted = fit(make_table(c=["red", "blue"] * 2, y=["p", "q"] * 2))
    other = make_table(c=["green", None, "red"])
    assert fitted.transform(other).tolist() == [[0, 0], [0, 0], [0, 1]]


def test_columns_are_found_by_name():
    fitted = fit(make_table(a=[1, 3], c=["u", "v"], y=[0.5, 1.5]))
    shuffled = make_table(extra=["x"], c=["v"], a=[3])
    assert fitted.transform(shuffled).tolist() == [[1, 0, 1]]


def test_a_category_of_the_training_may_look_like_a_number():
    fitted = fit(make_table(c=["1", "2", "x"] * 2, y=["p", "q"] * 3))
    assert fitted.transform(make_table(c=["2", "1"])).tolist() == [[0, 1, 0], [1, 0, 0]]


def test_useless_columns_are_ignored_with_a_reason():
    table = make_table(
        **{"column 1": range(40)},
        a=range(40),
        constant=[7] * 40,
        word=["same"] * 40,
        empty=[None] * 40,
        name=[f"person {row}" for row in range(40)],
        y=["p", "q"] * 20,
    )
    fitted = fit(table)
    assert [column.name for column in fitted.features] == ["a"]
    assert fitted.ignored == {
        "column 1": "a row number",
        "constant": "constant",
        "word": "constant",
        "empty": "empty",
        "name": "text with 40 different values in 40 rows",
    }


def test_rare_levels_beyond_the_most_frequent_get_no_input():
    levels = [f"common {row % MOST_LEVELS}" for row in range(400)] + [f"rare {row}" for row in range(50)]
    fitted = fit(make_table(c=levels, y=["p", "q"] * 225))
    (column,) = fitted.features
    assert isinstance(column, CategoryColumn) and len(column.levels) == MOST_LEVELS
    assert not fitted.transform(make_table(c=["rare 3"])).any()


@pytest.mark.parametrize(
    ("values", "task"),
    [
        (["a", "b"] * 20, "classification"),
        ([True, False] * 20, "classification"),
        ([0, 1] * 20, "classification"),
        ([0, 1] * 5, "classification"),
        ([3, 4, 5, None] * 10, "classification"),
        (list(range(40)), "regression"),
        ([0.5, 1.5] * 20, "regression"),
        (list(range(10)), "regression"),
        (["1", "2", "x"] * 10, "classification"),
    ],
)
def test_task_is_chosen(values, task):
    assert choose_task(make_table(y=values), "y")[0] == task


def test_classes_are_in_order_and_numbers_have_one_form():
    table = make_table(a=range(6), y=["10", "2", "2.0", "02", "10.0", None])
    fitted = fit(table, task="classification")
    assert fitted.target.classes == ("2", "10")
    assert fitted.targets(table).tolist() == [1, 0, 0, 0, 1, -1]
    assert fitted.decode(np.array([[0.9, 0.1], [0.2, 0.8]])).tolist() == ["2", "10"]


def test_regression_targets_come_back_in_their_units():
    table = make_table(a=range(5), y=[10.0, 20.5, 31.25, None, 47.0])
    fitted = fit(table, rows=[0, 1, 2, 4])
    targets = fitted.targets(table)
    assert np.isnan(targets[3])
    assert np.isclose(np.nanmean(targets), 0) and np.isclose(np.nanstd(targets), 1)
    assert np.allclose(fitted.decode(targets[:, None])[[0, 1, 2, 4]], [10, 20.5, 31.25, 47], rtol=1e-15)


@pytest.mark.parametrize("scale", [1e-200, 1.0, 1e200])
def test_extreme_but_finite_numbers(scale):
    table = make_table(a=[repr(scale), repr(2 * scale), repr(3 * scale)], y=[1.5, 2.5, 3.5])
    X = fit(table).transform(table, np.float64)[:, 0]
    assert np.allclose(X, [-np.sqrt(1.5), 0, np.sqrt(1.5)])


def test_config_is_json_and_comes_back():
    table = make_table(a=[1, 2, 4], c=["u", "v", None], k=[1, 1, 1], y=[0.1, 0.2, 0.7])
    fitted = fit(table)
    again = Preprocessing.from_config(json.loads(json.dumps(fitted.config())))
    assert again == fitted
    assert np.array_equal(again.transform(table), fitted.transform(table))
    classes = fit(make_table(a=[1, 2, 4, 5], y=["p", "q"] * 2))
    assert Preprocessing.from_config(json.loads(json.dumps(classes.config()))) == classes


@pytest.mark.parametrize(
    "damage",
    [
        lambda config: config.pop("features"),
        lambda config: config["features"][0].pop("name"),
        lambda config: config["features"][0].update(kind="picture"),
        lambda config: config["target"].update(unknown=1),
        lambda config: config.update(features=3),
    ],
)
def test_damaged_config(damage):
    config = fit(make_table(a=[1, 2, 4], y=[0.1, 0.2, 0.7])).config()
    damage(config)
    with pytest.raises(TableError, match="preprocessing in the model file is damaged"):
        Preprocessing.from_config(config)


@pytest.mark.parametrize(
    ("columns", "task", "message"),
    [
        ({"a": [1, 2], "z": [1, 2]}, "auto", "no column 'y'; its columns are 'a', 'z'"),
        ({"a": [1, 2], "Y": [1, 2]}, "auto", "did you mean 'Y'?"),
        ({"a": [1, 2], "y": [None, None]}, "auto", "every value of the target 'y' is missing"),
        ({"a": [1, 2], "y": ["p", "p"]}, "auto", "single class, 'p'"),
        ({"a": [1, 2], "y": [1, 1]}, "auto", "single class, '1'"),
        ({"a": [1, 2], "y": [1, 1]}, "regression", "every value of the target 'y' is 1"),
        ({"a": [1, 2], "y": ["p", 1]}, "regression", "column 'y', row 1: 'p' is not a number"),
        ({"a": [1, 2], "y": ["p", "q"]}, "auto", "2 classes in 2 rows, too few"),
        ({"a": [1, 2, 3], "y": [0.5, "inf", 1]}, "auto", "column 'y', row 2: an infinite number"),
        ({"a": [1, "-inf", 3], "y": [0.5, 2, 1]}, "auto", "column 'a', row 2: an infinite number"),
        ({"a": [1, 1, 1], "y": [0.5, 2, 1]}, "auto", "no column to learn from: 'a' is constant"),
        ({"y": [0.5, 2, 1]}, "auto", "no column to learn from: the target is the only one"),
        ({"a": [1, 2, 3], "y": [0.5, 2, 1]}, "guess", "task must be 'auto'"),
    ],
)
def test_tables_to_learn_nothing_from(columns, task, message):
    with pytest.raises(TableError) as caught:
        fit(make_table(**columns), task=task)
    assert message in str(caught.value)


def test_missing_columns_are_named():
    fitted = fit(make_table(a=[1, 2, 3], b=[1, 5, 3], c=["u", "v", "u"], y=[0.5, 2, 1]))
    with pytest.raises(TableError, match=r"no column 'a', 'c', which the model was trained on"):
        fitted.transform(make_table(b=[1]))


def test_text_in_a_column_of_numbers_is_named():
    fitted = fit(make_table(a=[1, 2, 3], y=[0.5, 2, 1]))
    with pytest.raises(TableError, match="column 'a', row 2: 'abc' is not a number"):
        fitted.transform(make_table(a=[1, "abc", 2]))


def test_a_number_too_large_for_the_dtype_is_named():
    fitted = fit(make_table(a=[1, 2, 3], y=[0.5, 2, 1]))
    with pytest.raises(TableError, match=r"column 'a', row 1: 1e\+300 is out of range"):
        fitted.transform(make_table(a=["1e300", 2]))
