"""scikit-learn's multilayer perceptrons on fastbp's engine: change the import, keep the rest.

The estimators take scikit-learn's arguments, start from the same weights, see the same batches and make the
same steps, so that one ``random_state`` leads to one result. They can also do what the originals refuse:
class weights, dropout, more activations, losses and optimizers, validation data of one's own.
"""

import importlib.util

if importlib.util.find_spec("sklearn") is None:
    raise ImportError('fastbp.sklearn needs scikit-learn: pip install "fastbp[sklearn]"')

from fastbp.sklearn.classifier import MLPClassifier
from fastbp.sklearn.regressor import MLPRegressor

__all__ = ["MLPClassifier", "MLPRegressor"]
