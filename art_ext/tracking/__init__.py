"""Trackers of trainings and evaluations: TensorBoard, Weights & Biases and MLflow."""

from art_ext.tracking.trackers import Trackers, check_trackers, key

__all__ = ["Trackers", "check_trackers", "key"]
