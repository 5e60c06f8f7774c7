"""Objectives: pure functions of tensors, each with its paper. None of them holds weights or reads a file."""
