"""Callbacks: hooks that training calls between epochs, and, if asked for, between batches."""

from fastbp.callbacks.backup import BackupAndRestore
from fastbp.callbacks.base import Callback, LambdaCallback
from fastbp.callbacks.files import CSVLogger, ModelCheckpoint
from fastbp.callbacks.learning_rate import LearningRateScheduler, ReduceLROnPlateau
from fastbp.callbacks.stopping import EarlyStopping, TerminateOnNaN

__all__ = [
    "BackupAndRestore",
    "CSVLogger",
    "Callback",
    "EarlyStopping",
    "LambdaCallback",
    "LearningRateScheduler",
    "ModelCheckpoint",
    "ReduceLROnPlateau",
    "TerminateOnNaN",
]
