"""Whole runs: settings, training, prediction, evaluation, demonstration."""
