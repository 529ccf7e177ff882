"""What lies on disk.

A run directory (`run_directory`), checkpoints to go on from (`checkpoints`, `lock`), and opening a model
again (`load`).
"""
